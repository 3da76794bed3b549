"""ONNX Runtime beside OpenVINO on the default bundles: CPU time of a creative, batch by batch in turn, and the scores.

.venv/bin/python -m benchmarks.backends --batch 16 --rounds 8
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from benchmarks import probes
from worker.commands.backends import Runners
from worker.commands.compose import load_engines

BACKENDS = ("onnxruntime", "openvino")


def seconds(engines: Any, rows: list[Any]) -> tuple[float, dict[str, float]]:
    """(CPU seconds of a creative, value per head of the first)."""
    began = time.process_time()
    results = engines.score(rows)
    spent = (time.process_time() - began) / len(rows)
    return spent, {head: part["value"] for head, part in results[0].parts.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    rows = [probes.prepared()] * options.batch
    made = {}
    for backend in BACKENDS:
        settings = probes.settings(ADSCORE_BACKEND=backend)
        made[backend] = load_engines(settings, Runners(settings), "probe")
        made[backend].warm(options.batch)
    spent: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    values: dict[str, dict[str, float]] = {}
    for number in range(options.rounds):
        for backend in BACKENDS if number % 2 else BACKENDS[::-1]:
            took, values[backend] = seconds(made[backend], rows)
            spent[backend].append(took)
    for backend in BACKENDS:
        ratio = statistics.median(one / other for one, other in zip(spent[backend], spent[BACKENDS[0]], strict=True))
        off = max(abs(values[backend][head] - value) for head, value in values[BACKENDS[0]].items())
        print(
            f"{backend}: {statistics.median(spent[backend]) * 1000:.1f} ms, ratio {ratio:.2f}, values off by {off:.1e}"
        )


if __name__ == "__main__":
    main()
