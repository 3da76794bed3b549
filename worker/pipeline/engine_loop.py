"""The engine's thread: takes batches that are due, scores them, hands each job back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from admodels.runtime.runner import EngineLostError
from worker.metrics import Metrics
from worker.pipeline.job import Job
from worker.scoring.batch import Batcher
from worker.scoring.engines import Engines, Scored
from worker.scoring.feeds import Prepared
from worker.tracing import Tracing

MAX_ATTEMPTS = 3
_log = structlog.get_logger(__name__)


class EngineLoop:
    """One thread around `Engines.score`; while it runs, the next batch gathers.

    Args:
        after: called on this thread with each job once its parts and errors are final.
        on_fatal: called when the engine is lost (or can't be trusted any more); the thread ends then.
    """

    def __init__(
        self,
        engines: Engines,
        batch_size: int,
        batch_delay_seconds: float,
        metrics: Metrics,
        after: Callable[[Job], None],
        on_fatal: Callable[[Exception], None],
        tracing: Tracing,
    ) -> None:
        self._engines, self._metrics, self._after, self._on_fatal = engines, metrics, after, on_fatal
        self._tracing = tracing
        self._batcher: Batcher[Job] = Batcher(batch_size, batch_delay_seconds)
        self._changed = threading.Condition()
        self._closing = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queue a prepared job."""
        with self._changed:
            self._batcher.add(job, time.monotonic())
            self._metrics.queue_depth.labels("batch").set(len(self._batcher))
            self._changed.notify()

    def busy_seconds(self) -> float:
        """How long the present batch has been running; 0 when none is."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self, *, wait: bool = True) -> None:
        """End the thread after its current batch; what waits is dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if wait:
            self._thread.join()

    def _run(self) -> None:
        try:
            while batch := self._next():
                self._score(batch)
        except EngineLostError as error:
            self._on_fatal(error)

    def _next(self) -> list[Job]:
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                batch = self._batcher.take(now)
                if batch:
                    self._metrics.queue_depth.labels("batch").set(len(self._batcher))
                    return batch
                self._changed.wait(self._batcher.due_in(now))
        return []

    def _score(self, batch: list[Job]) -> None:
        batch = [job for job in batch if not job.cancelled or job.followers]
        started = self._busy_since = time.monotonic()
        with self._tracing.batch([job.trace for job in batch]):
            self._attempt(batch)
            for job in batch:
                while job.errors and not job.parts and job.attempts < MAX_ATTEMPTS:
                    self._attempt([job])
        self._busy_since = None
        seconds = time.monotonic() - started
        if batch:
            self._metrics.batch_size.observe(len(batch))
            self._metrics.stage.labels("infer").observe(seconds)
        for job in batch:
            job.spend("infer", seconds)
            for head in job.errors:
                self._metrics.head_errors.labels(head).inc()
            self._after(job)

    def _attempt(self, batch: Sequence[Job]) -> None:
        prepared = [Prepared(job.decoded.pixels, job.tokens, job.wanted) for job in batch if job.decoded]
        try:
            results = self._engines.score(prepared)
        except EngineLostError:
            raise
        except Exception as error:  # noqa: BLE001  a broken bundle must not end the thread and hang every creative
            _log.error("engine_loop_failed", error=type(error).__name__)
            failed = {head: f"internal error: {type(error).__name__}" for head in self._engines.digests}
            results = [Scored(errors={head: failed[head] for head in job.wanted}) for job in batch]
        for job, result in zip(batch, results, strict=True):
            job.attempts += 1
            job.parts = {**job.parts, **result.parts}
            job.errors = result.errors
