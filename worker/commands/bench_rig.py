"""What a benchmark drives: a whole worker that takes records at set moments and tells when each one is delivered."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from worker.errors import FatalError
from worker.settings_schema import Settings

SILENCE_SECONDS = 120.0
"""So long without a result, beyond an engine's own time-out, and the worker counts as stuck."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A record for the worker. `due`: when it arrives, on the monotonic clock; the record's timestamp says the same."""

    key: bytes
    value: bytes
    due: float

    @property
    def timestamp_ms(self) -> int:
        """`due` on the calendar's clock."""
        return round((time.time() + self.due - time.monotonic()) * 1000)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a record, at `moment` on the monotonic clock. `value`: the enriched event, None of a dead letter."""

    key: bytes
    moment: float
    value: bytes | None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Stages:
    """The worker's own metrics at a moment: per stage the seconds spent and how often."""

    moment: float
    spent: Mapping[str, tuple[float, float]]


class Rig(Protocol):
    """A worker with nothing to do yet. `offer` may come before `start` (what is due waits) and after it."""

    results: SimpleQueue[Result]

    def offer(self, offers: Iterable[Offer]) -> None:
        """Submit records when they are due. Returns at once; before `start`, when they are all submitted."""
        ...

    def start(self) -> None:
        """Have the worker work; returns when it is ready."""
        ...

    def withdraw(self) -> int:
        """Submit nothing more of what was offered; how many records will never come."""
        ...

    def stages(self) -> Stages:
        """The metrics now."""
        ...

    def check(self) -> None:
        """Raises FatalError where the worker has ended."""
        ...


def read_stages(families: Iterable[Any]) -> Stages:
    """`adscore_stage_duration_seconds` of a registry or of a parsed /metrics."""
    spent: dict[str, dict[str, float]] = {}
    for family in families:
        if family.name == "adscore_stage_duration_seconds":
            for sample in family.samples:
                kind = sample.name.rpartition("_")[2]
                spent.setdefault(sample.labels["stage"], {})[kind] = sample.value
    return Stages(time.monotonic(), {stage: (found["sum"], found["count"]) for stage, found in spent.items()})


def gather(rig: Rig, count: int, silence_seconds: float = SILENCE_SECONDS) -> list[Result]:
    """The next `count` results. Raises FatalError where the worker ends, or is silent."""
    found: list[Result] = []
    heard = time.monotonic()
    while len(found) < count:
        try:
            found.append(rig.results.get(timeout=0.5))
            heard = time.monotonic()
        except Empty:
            rig.check()
            if time.monotonic() - heard > silence_seconds:
                raise FatalError(
                    f"{len(found)} of {count} creatives came out, then none for {silence_seconds:g} s: "
                    "`adscore doctor` says what doesn't work here",
                    exit_code=3,
                ) from None
    return found


def stage_workers(settings: Settings) -> dict[str, int]:
    """How many work at each stage at once."""
    cores = len(os.sched_getaffinity(0))
    return {
        "fetch": settings.fetch.workers,
        "decode": settings.decode.workers or cores,
        "ocr": settings.ocr.workers or cores,
        "infer": 1,
    }


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage between two moments. busy: share of its workers' time; mean_ms: of a record, `infer`: of a batch."""

    workers: int | None
    busy: float | None
    mean_ms: float
    count: int


def between(before: Stages, after: Stages, workers: Mapping[str, int]) -> dict[str, Stage]:
    """What the stages did from one moment to the other, in the order of the walk."""
    elapsed = after.moment - before.moment
    found: dict[str, Stage] = {}
    for stage in ("fetch", "decode", "ocr", "infer", "publish"):
        seconds, count = _minus(after.spent.get(stage), before.spent.get(stage))
        if count:
            places = workers.get(stage)
            busy = round(min(1.0, seconds / elapsed / places), 4) if places else None
            found[stage] = Stage(places, busy, round(seconds / count * 1000, 3), round(count))
    return found


def bottleneck(stages: Mapping[str, Stage]) -> str | None:
    """The stage whose workers have least time to spare."""
    known: Sequence[str] = [name for name, stage in stages.items() if stage.busy is not None]
    return max(known, key=lambda name: stages[name].busy or 0.0, default=None)


def _minus(after: tuple[float, float] | None, before: tuple[float, float] | None) -> tuple[float, float]:
    (seconds, count), (less, fewer) = after or (0.0, 0.0), before or (0.0, 0.0)
    return seconds - less, count - fewer
