"""What a worker and its children hold: memory, descriptors, threads, queues. And whether that grows."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

LIMIT = 0.05
LEAST: Mapping[str, float] = {"memory_mib": 4.0, "descriptors": 2.0, "threads": 2.0, "queued": 2.0}
"""Growth that is none, however small the figure: a page cache, one connection more or less."""
Sample = Mapping[str, float]


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            after_name = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents.setdefault(int(after_name[1]), []).append(int(entry))
    found, at = [pid], 0
    while at < len(found):
        found += parents.get(found[at], [])
        at += 1
    return found


def held(pid: int, metrics: str) -> Sample:
    """Of the whole family: proportional memory (MiB), open descriptors, threads; and the worker's own queues."""
    memory, descriptors, threads = 0.0, 0, 0
    for member in family(pid):
        try:
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
            status = Path(f"/proc/{member}/status").read_text()
            descriptors += len(os.listdir(f"/proc/{member}/fd"))
        except OSError:
            continue  # it has ended
        memory += int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[1]) / 1024  # type: ignore[index]
        threads += int(re.search(r"^Threads:\s+(\d+)", status, re.MULTILINE)[1])  # type: ignore[index]
    queued = sum(
        sample.value
        for metric in text_string_to_metric_families(metrics)
        for sample in metric.samples
        if sample.name in ("adscore_queue_depth", "adscore_inflight_events")
    )
    return {"memory_mib": memory, "descriptors": descriptors, "threads": threads, "queued": queued}


def growth(samples: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    """Per figure its median in the first and in the last third."""
    third = max(1, len(samples) // 3)
    return {
        name: (
            statistics.median(sample[name] for sample in samples[:third]),
            statistics.median(sample[name] for sample in samples[-third:]),
        )
        for name in LEAST
    }


def grown(samples: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    """Those figures whose growth is more than LIMIT and more than LEAST."""
    return {
        name: (first, last)
        for name, (first, last) in growth(samples).items()
        if last - first > max(LIMIT * first, LEAST[name])
    }
