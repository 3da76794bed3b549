"""`python -m tests.faults.tables FILE…`: what `make faults` and `make soak` wrote as JSON, as Markdown tables.

Of a cell that is in several files the last one counts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COUNTED = ("lost", "phantom", "duplicated", "stale revision last", "hanging transaction", "committed past unfinished")


def matrix(cells: Mapping[str, Mapping[str, Any]]) -> str:
    """A line per cell; every check that isn't zero is named in the last column."""
    columns = ("cell", "records", "passed per partition", *COUNTED, "repeats", "deaths", "longest silence, s", "other")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, cell in cells.items():
        if "records" not in cell:
            lines.append(f"| `{name}` | not played |" + " |" * (len(columns) - 2))
            continue
        wrong = cell["wrong"]
        other = "; ".join(f"{check} {count}" for check, count in wrong.items() if count and check not in COUNTED)
        figures = (
            f"{cell['records']:,}",
            f"{cell['passed_per_partition']:,}",
            *(wrong[check] for check in COUNTED),
            f"{cell['repeats']:,}",
            cell["deaths"],
            f"{cell['recovery_seconds']:.0f}",
            other or "–",
        )
        lines.append(f"| `{name}` | {' | '.join(map(str, figures))} |")
    return "\n".join(lines)


def soak(figures: Mapping[str, Any]) -> str:
    """What was held when warm and at the end."""
    lines = ["| held | when warm | at the end | change |", "|---|---|---|---|"]
    for name, (first, last) in figures["growth"].items():
        lines.append(f"| {name} | {first:.1f} | {last:.1f} | {100 * (last - first) / max(first, 1e-9):+.1f} % |")
    return "\n".join(lines)


def main(files: list[str]) -> None:
    """Print the tables."""
    cells: dict[str, Any] = {}
    for file in files:
        figures = json.loads(Path(file).read_text())
        if "cells" in figures:
            cells |= figures["cells"]
        else:
            print(soak(figures), end="\n\n")
    if cells:
        print(matrix(cells))


if __name__ == "__main__":
    main(sys.argv[1:])
