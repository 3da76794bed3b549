"""Figures of a run, from its enriched events: how many of each kind, and where the time went."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

STAGES = ("fetch", "decode", "ocr", "infer", "total")
PERCENTILES = (50, 95, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of `values` that at least `percent` % of them don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def stage_milliseconds(events: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Per stage `count`, `p50`, `p95`, `p99` of `provenance.latency_ms`, in the order of the walk."""
    spent: dict[str, list[float]] = {}
    for event in events:
        for stage, milliseconds in event["provenance"]["latency_ms"].items():
            spent.setdefault(stage, []).append(milliseconds)
    known = [stage for stage in STAGES if stage in spent]
    named = [*known[:-1], *sorted(set(spent) - set(STAGES)), *known[-1:]]
    return {
        stage: {"count": len(spent[stage])} | {f"p{p}": round(percentile(spent[stage], p), 1) for p in PERCENTILES}
        for stage in named
    }


def from_cache(event: Mapping[str, Any]) -> bool:
    """Whether no head had to be run for it."""
    results = event["provenance"]["cache"].values()
    return bool(results) and all(result == "hit" for result in results)
