"""`python -m benchmarks.ocr_ceiling`: how much of OCR's own rate the whole worker keeps when each image has to be read.

In turn: OCR's processes alone, each always given a picture that lies ready; then the whole worker on the same
creatives, in this process (`adscore bench throughput --text read`). The settings are those of the environment; leave
cores to the rest of the worker (ADSCORE_OCR__WORKERS), or the two share OCR's and the ratio says that. `--pin` gives
OCR's processes as many cores for themselves as there are of them, and the rest of the worker the others.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from worker.commands.bench_creatives import samples, tails
from worker.commands.bench_process import process_rig
from worker.commands.bench_runs import Supply, saturated, slope
from worker.commands.compose import fetcher_of
from worker.delivery.cache import MemoryCache
from worker.intake.decode import DecoderPool
from worker.intake.ocr import OcrPool
from worker.settings import load
from worker.settings_schema import Settings


def pictures(settings: Settings, supply: Supply) -> list[Any]:
    """What OCR reads of each sample: uint8 H×W."""
    fetcher, pool = fetcher_of(settings), DecoderPool(1, [(32, 32)])
    try:
        return [
            pool.decode(fetcher.fetch(sample.creative).data, ocr=True, pixels=False).ocr for sample in supply.samples
        ]
    finally:
        pool.close()


def bare(settings: Settings, greys: list[Any], count: int) -> float:
    """Readings per second of the processes alone, behind the first fifth as the worker's."""
    workers = settings.ocr.workers or len(os.sched_getaffinity(0))
    pool = OcrPool(workers, settings.ocr.engine, settings.ocr.languages, settings.ocr.timeout_seconds)

    def read(index: int) -> float:
        pool.read(greys[index % len(greys)])
        return time.monotonic()

    try:
        with ThreadPoolExecutor(workers) as threads:
            moments = sorted(threads.map(read, range(count)))
    finally:
        pool.close()
    return slope(moments[count // 5 :])


def keep_apart(settings: Settings) -> None:
    """From now on OCR's processes run on the first cores, everything else of this process on the others."""
    cores = sorted(os.sched_getaffinity(0))
    own = set(cores[: settings.ocr.workers])
    if not own or len(own) == len(cores):
        raise SystemExit(f"--pin wants ADSCORE_OCR__WORKERS from 1 to {len(cores) - 1} on these {len(cores)} cores")
    os.sched_setaffinity(0, set(cores) - own)

    def watch() -> None:
        while True:
            for child in Path("/proc/self/task").glob("*/children"):
                for pid in child.read_text().split():
                    with contextlib.suppress(OSError):
                        if b"ocr_child" in Path("/proc", pid, "cmdline").read_bytes():
                            os.sched_setaffinity(int(pid), own)
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--creatives", type=int, default=64, help="in each round (default: 64)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pin", action="store_true", help="OCR's processes on cores of their own")
    wanted = parser.parse_args()
    settings = load(None, dict(os.environ)).settings
    if wanted.pin:
        keep_apart(settings)
    good, _ = samples((), "read", settings.fetch.max_bytes)
    supply = Supply(good, tails())
    greys, cache = pictures(settings, supply), MemoryCache(settings.pipeline.cache_memory_items)
    print(f"{settings.ocr.engine}, load {os.getloadavg()[0]:.1f}", flush=True)
    ratios = []
    for number in range(wanted.rounds):
        alone = bare(settings, greys, wanted.creatives)
        run = saturated(lambda: process_rig(settings, cache), settings, supply, wanted.creatives, cached=False)
        ratios.append(run.rate / alone)
        busy = run.stages["ocr"].busy or 0.0
        print(
            f"round {number + 1}: OCR alone {alone:.2f}/s, worker {run.rate:.2f}/s, ratio {ratios[-1]:.3f}; "
            f"OCR at work {busy:.1%} of the worker's time",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
