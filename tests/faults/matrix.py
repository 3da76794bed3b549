"""`make faults [CELLS=…] [SEED=…]`: play the matrix on a real cluster, print a table, write JSON.

python -m tests.faults.matrix [--seed N] [--json FILE] [CELL…]     a CELL may be a pattern like broker-*-eos-4
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from tests.faults.cells import CELLS
from tests.faults.cluster import Cluster
from tests.faults.creatives import event
from tests.faults.fleet import clean_environment
from tests.faults.light_models import write_light_models
from tests.faults.load import IMAGES, picture
from tests.faults.scene import Result, play
from tools.local_stack import ROOT

COLUMNS = ("records", "passing", "repeats", "deaths", "recovery s", "s")


def reference_scores(models: Path) -> Mapping[int, Any]:
    """Per image the scores of a run without cache, without Kafka."""
    lines = b"\n".join(orjson.dumps(event(str(number), picture(number))) for number in range(IMAGES))
    environment = clean_environment() | {"ADSCORE_MODELS__DIR": str(models), "ADSCORE_OCR__WORKERS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "worker", "score", "--json", "-"],
        input=lines,
        env=environment,
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    scored = [orjson.loads(line) for line in done.stdout.splitlines()]
    return {int(line["creative_id"]): {head: part["value"] for head, part in line["scores"].items()} for line in scored}


def row(name: str, result: Result) -> str:
    """One line of the table."""
    cells = (
        result.records,
        result.passed,
        result.account.repeats,
        result.deaths,
        f"{result.recovery_seconds:.1f}",
        f"{result.seconds:.0f}",
    )
    wrong = ", ".join(f"{count} {check}" for check, count in result.account.counts.items() if count)
    return f"{name:22}" + "".join(f"{cell:>11}" for cell in cells) + f"  {wrong or 'clean'}"


def as_json(result: Result) -> dict[str, Any]:
    """What is kept of a cell."""
    return {
        "wrong": result.account.counts,
        "records": result.records,
        "passed_per_partition": result.passed,
        "fates": result.account.ended,
        "repeats": result.account.repeats,
        "deaths": result.deaths,
        "exits": list(result.exits),
        "recovery_seconds": result.recovery_seconds,
        "seconds": round(result.seconds, 1),
    }


def main() -> int:
    """Play and print; exit 1 when a cell isn't clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", default=["*"])
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--passing", type=int, default=1_000, help="records per partition during each cell's faults")
    options = parser.parse_args()
    # In the order asked for.
    chosen = list(dict.fromkeys(name for wanted in options.cells for name in fnmatch.filter(CELLS, wanted)))
    if not chosen:
        parser.error(f"no cell fits {' '.join(options.cells)}; there are: {' '.join(CELLS)}")
    print(f"seed {options.seed}; {len(chosen)} cells; kafka-python {version('kafka-python')}, {platform.platform()}")
    print(f"{'cell':22}" + "".join(f"{name:>11}" for name in COLUMNS), flush=True)
    kept: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="models-") as folder:
        models = write_light_models(Path(folder))
        scores = reference_scores(models)
        for start in range(0, len(chosen), 12):
            # A fresh cluster now and then: the topics of finished cells cost it memory.
            with Cluster() as cluster:
                for name in chosen[start : start + 12]:
                    kept[name] = _cell(name, cluster, models, options, scores)
                    if options.json:
                        told = {"seed": options.seed, "cores": os.cpu_count(), "cells": kept}
                        options.json.write_text(json.dumps(told, indent=1))
    failed = [name for name, entry in kept.items() if any(entry["wrong"].values())]
    print(f"{len(kept) - len(failed)} of {len(kept)} cells clean, seed {options.seed}")
    for name in failed:
        print(f"again: make faults CELLS={name} SEED={options.seed}")
    return 1 if failed else 0


def _cell(
    name: str, cluster: Cluster, models: Path, options: argparse.Namespace, scores: Mapping[int, Any]
) -> dict[str, Any]:
    cell = CELLS[name]
    shape = replace(cell.shape, passing=options.passing)
    try:
        result = play(shape, cell.fault, cluster, models, name, f"{options.seed}/{name}", scores)
    except Exception as error:  # noqa: BLE001  one cell that can't be played doesn't end the others
        traceback.print_exc()
        print(f"{name:22} not played: {type(error).__name__}: {error}", flush=True)
        cluster.mend()
        return {"wrong": {"not played": 1}}
    print(row(name, result), flush=True)
    if not result.clean:
        print(result.account.told(), flush=True)
    return as_json(result)


if __name__ == "__main__":
    sys.exit(main())
