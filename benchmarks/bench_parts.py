"""Each part of the pipeline inside one process: wall-clock time of one unit, warm."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.probes import PROBES


@pytest.mark.parametrize("name", PROBES)
def test_part(benchmark: Any, name: str) -> None:
    unit = PROBES[name]()
    unit()
    benchmark(unit)
