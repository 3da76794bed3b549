"""Whether a creative costs the same, in memory and CPU time, after a hundred thousand others as after a hundred.

    python -m benchmarks.growth --most 100000 --known
    python -m benchmarks.growth --most 3000

A whole worker in this process (`adscore bench throughput`'s: no Kafka, no Redis) takes creatives a few hundred at a
time, so that what waits outside it doesn't count. At each power of ten it prints the process's and its children's
memory and the CPU time per creative since the last one. `--known`: after the first round of samples the cache knows all
of them, under new ids and with new revisions; without it each creative is new content, and scored. `--out FILE` writes
the same as JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from worker.commands.bench import facts
from worker.commands.bench_creatives import samples, tails
from worker.commands.bench_process import process_rig
from worker.commands.bench_rig import Rig, gather
from worker.commands.bench_runs import Supply
from worker.delivery.cache import MemoryCache
from worker.settings import load

CHUNK = 200
FIRST = 100
WARM = 200
"""Creatives before the first that counts: threads, buffers and arenas are there by then."""


@dataclass(frozen=True)
class Point:
    """After `creatives`: resident MiB of worker and children, CPU ms of each creative since the point before."""

    creatives: int
    resident_mib: float
    cpu_ms: float


def main() -> None:
    """Measure, print, write."""
    options, began = _options(), time.time()
    settings = load(None, dict(os.environ)).settings
    good, _ = samples(options.paths, "given", settings.fetch.max_bytes)
    supply = Supply(good, tails())
    known = [next(supply.tails) for _ in range(CHUNK)] if options.known else None
    with process_rig(settings, MemoryCache(settings.pipeline.cache_memory_items)) as rig:
        rig.start()
        _pass(rig, supply, WARM, known)
        points, done, spent = [], 0, _cpu_seconds()
        for goal in _goals(options.most):
            _pass(rig, supply, goal - done, known)
            now = _cpu_seconds()
            points.append(Point(goal, round(_resident_mib(), 1), round((now - spent) / (goal - done) * 1000, 3)))
            print(f"{goal:>8} creatives  {points[-1].resident_mib:8.1f} MiB  {points[-1].cpu_ms:7.3f} ms", flush=True)
            done, spent = goal, now
    if options.out:
        found = facts("growth", settings, supply, False, "given", began)
        found |= {"known": options.known, "points": [asdict(point) for point in points]}
        options.out.write_text(json.dumps(found, indent=1) + "\n")


def _pass(rig: Rig, supply: Supply, count: int, known: list[str] | None) -> None:
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        rig.offer(supply.take([time.monotonic()] * size, None if known is None else known[:size]))
        gather(rig, size)


def _goals(most: int) -> list[int]:
    """100, 1,000, …, and `most`."""
    powers = itertools.takewhile(lambda goal: goal < most, (FIRST * 10**step for step in itertools.count()))
    return [*powers, most]


def _family() -> list[Path]:
    """This process and its children, as folders of /proc."""
    own = Path("/proc/self/task")
    children = {child for task in own.iterdir() for child in (task / "children").read_text().split()}
    return [Path("/proc/self"), *(Path("/proc", child) for child in children)]


def _resident_mib() -> float:
    """What they hold by themselves and their share of what they share (proportional set size)."""
    lines = [line for member in _family() for line in (member / "smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _cpu_seconds() -> float:
    """User and system time so far, of all of them."""
    ticks = [sum(map(int, (member / "stat").read_text().rpartition(")")[2].split()[11:13])) for member in _family()]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Memory and CPU time per creative, as the number of creatives grows.")
    parser.add_argument("paths", nargs="*", help="images, folders, JSONL (default: creatives made here)")
    parser.add_argument("--most", type=int, default=10_000, help="creatives in all, after the warm-up")
    parser.add_argument("--known", action="store_true", help="content that the cache knows")
    parser.add_argument("--out", type=Path, help="write JSON there")
    options = parser.parse_args()
    if options.most <= FIRST:
        parser.error(f"--most must be over {FIRST}")
    return options


if __name__ == "__main__":
    main()
