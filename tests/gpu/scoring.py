"""The scoring half by itself: an image's bytes → pixels (in processes) → batch → engines → assembled event."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from admodels.contract.bundle import Bundle
from admodels.runtime.runner import Runner
from worker.scoring.assemble import enriched_event
from worker.scoring.engines import Engines
from worker.scoring.feeds import Prepared
from worker.types import Copy, Creative, OcrResult, ScoredCreative

HEADS = {"attractiveness": "dbafn", "sentiment": "fgmfn", "ctr": "adfusion"}
ENCODERS = ("mobilenetv2", "minilm")
TEXT = Copy("Summer sale ends Sunday", "Up to 40 % off on all garden furniture", "Shop now", "Oakline")
BATCH = 32
Sizes = Sequence[tuple[int, int]]


def engines(bundles: dict[str, Bundle], make: Callable[[Bundle], Runner]) -> Engines:
    """The three heads on their encoders, warm."""
    encoders = {bundles[name].digest: bundles[name] for name in ENCODERS}
    made = Engines({head: [bundles[name]] for head, name in HEADS.items()}, encoders, make, "given")
    made.warm(BATCH)
    return made


def decoded(data: bytes, sizes: Sizes) -> list[bytes]:
    """The pixels of each size. Runs in a process of its own."""
    from worker.intake import decode_child

    _, body = decode_child.decode(memoryview(data), list(sizes), ocr=False, pixels=True)
    return [bytes(part) for part in body]


def prepared(made: Engines, pixels: Sequence[bytes]) -> Prepared:
    """One creative as the engines read it."""
    stacked: dict[tuple[int, int], NDArray[np.uint8]] = {
        size: np.frombuffer(part, np.uint8).reshape(*size, 3) for size, part in zip(made.sizes, pixels, strict=True)
    }
    fields = {name: getattr(TEXT, name) for name in ("headline", "body", "cta", "brand")}
    return Prepared(stacked, made.tokens(fields), frozenset(HEADS))


def event(made: Engines, parts: dict[str, Any]) -> dict[str, Any]:
    """The event that is published."""
    scored = ScoredCreative(
        creative=Creative("cr-1", 1, "", TEXT), content_sha256="c" * 64, image_sha256="a" * 64, phash="0" * 16,
        heads=parts, cache=dict.fromkeys(parts, "miss"), models=made.models, ocr=OcrResult(""),
    )  # fmt: skip
    return enriched_event(scored, origin=None, scored_at_ms=1)


def pool() -> ProcessPoolExecutor:
    """Decoders on all cores but one; spawned, since a fork of a process that holds CUDA can't live."""
    processes = max(1, len(os.sched_getaffinity(0)) - 1)
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))


def run(made: Engines, workers: ProcessPoolExecutor, data: bytes, count: int, rate: float | None) -> list[float]:
    """Score `count` creatives; the seconds from each one's arrival to its event.

    rate: arrivals a second, whatever is finished by then; None: all are there at once.
    """
    began = time.perf_counter()
    arrivals = [began + (0.0 if rate is None else number / rate) for number in range(count)]
    waiting: list[tuple[float, Future[list[bytes]]]] = []
    taken, ages = 0, []
    while len(ages) < count:
        while taken < count and arrivals[taken] <= time.perf_counter():
            waiting.append((arrivals[taken], workers.submit(decoded, data, tuple(made.sizes))))
            taken += 1
        ready = [item for item in waiting if item[1].done()][:BATCH]
        if not ready:
            time.sleep(0.0005)
            continue
        chosen = {id(item) for item in ready}
        waiting = [item for item in waiting if id(item) not in chosen]
        scored = made.score([prepared(made, pixels.result()) for _, pixels in ready])
        for (arrived, _), one in zip(ready, scored, strict=True):
            assert not one.errors, one.errors
            event(made, one.parts)
            ages.append(time.perf_counter() - arrived)
    return ages
