"""The dated result files: what a benchmark says ends up in them, and is drawn."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import growth, plots, record
from worker.commands.bench import bench


def points(*resident: float) -> dict[str, Any]:
    found = [{"creatives": 100 * 10**step, "resident_mib": mib, "cpu_ms": 0.7} for step, mib in enumerate(resident)]
    return {"command": "growth", "result": {"points": found}}


def told(**more: Any) -> dict[str, Any]:
    return {"date": "2026-01-01", "machine": {"cpu": "a CPU", "cores": 2}, **more}


def ink(picture: Path) -> int:
    with Image.open(picture) as image:
        return int((np.asarray(image.convert("L")) < 250).sum())


def test_a_result_is_drawn(tmp_path: Path) -> None:
    stages = {"decode": {"busy": 0.2}, "infer": {"busy": 0.97}}
    rates = [{"offered": rate, "p50": 40.0, "p95": 80.0, "p99": 90.0, "overloaded": False} for rate in (5, 10)]
    some = told(growth_known=points(930.0, 931.0))
    more = some | {
        "throughput": {"result": {"rounds": [{"stages": stages}]}},
        "latency": {"result": {"rates": rates, "saturated": 20.0, "p99_limit_ms": 500}},
        "peers_given": {"result": {"rounds": [{"adscore": {"rate": 20.0}, "naive": {"rate": 15.0}}]}},
    }
    plots.draw(some, tmp_path / "some.png")
    plots.draw(more, tmp_path / "more.png")
    assert 1000 < ink(tmp_path / "some.png") < ink(tmp_path / "more.png")


def test_nothing_to_draw_names_the_mend(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"python -m benchmarks\.record"):
        plots.draw(told(), tmp_path / "none.png")


@pytest.mark.parametrize("name", [name for name, line in record.BENCHMARKS.items() if " bench " in line])
def test_the_worker_knows_the_commands(name: str) -> None:
    words = shlex.split(record.BENCHMARKS[name])
    arguments = words[words.index("worker") + 1 :]
    made = bench.commands[arguments[1]].make_context(arguments[1], arguments[2:])
    assert made.params["as_json"] is True


def test_what_fails_is_told() -> None:
    with pytest.raises(SystemExit, match="ended with 3:\nno broker"):
        record.measured("""python -c 'print("no broker"); raise SystemExit(3)'""")


def test_json_from_a_file_or_from_what_is_printed() -> None:
    assert record.measured("""python -c 'print("[1]")'""") == [1]
    assert record.measured("""python -c 'import sys; open(sys.argv[1], "w").write("[2]"); print("noise")' FILE""") == [
        2
    ]


def test_growth_is_asked_at_powers_of_ten() -> None:
    assert growth._goals(3000) == [100, 1000, 3000]
    assert growth._goals(10_000) == [100, 1000, 10_000]
