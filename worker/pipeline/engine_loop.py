"""The engine's thread: takes batches that are due, scores them, hands each job back; and its watchdog."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from admodels.runtime.runner import EngineLostError
from worker.metrics import Metrics
from worker.pipeline.job import Job
from worker.pipeline.watchdog import Watchdog
from worker.scoring.batch import Batcher
from worker.scoring.ceiling import BatchCeiling
from worker.scoring.engines import Engines, Scored
from worker.scoring.feeds import Prepared
from worker.tracing import Tracing

MAX_ATTEMPTS = 3
LOOK_SECONDS = 1.0
"""How often the watchdog looks, at most."""
_log = structlog.get_logger(__name__)


class EngineLoop:
    """One thread around `Engines.score`; while it runs, the next batch gathers.

    Args:
        timeout_seconds: an engine that answers a batch no sooner hangs, and counts as lost.
        abandoned: asked of a cancelled job before it is scored: whether nobody waits for it, so that it is dropped.
        after: called on this thread with each job once its parts and errors are final.
        on_fatal: called once when the engine is lost (or can't be trusted any more); `after` isn't called any more.
    """

    def __init__(
        self,
        engines: Engines,
        batch_size: int,
        batch_delay_seconds: float,
        timeout_seconds: float,
        metrics: Metrics,
        abandoned: Callable[[Job], bool],
        after: Callable[[Job], None],
        on_fatal: Callable[[Exception], None],
        tracing: Tracing,
    ) -> None:
        self._engines, self._metrics, self._after, self._on_fatal = engines, metrics, after, on_fatal
        self._abandoned = abandoned
        self._tracing = tracing
        self._batcher: Batcher[Job] = Batcher(batch_size, batch_delay_seconds)
        self._ceiling = BatchCeiling(batch_size)
        metrics.batch_limit.set(batch_size)
        self._changed = threading.Condition()
        self._closing = False
        self._lost = threading.Event()
        self._ended = threading.Event()
        self._attempts = 0
        self._busy_since: float | None = None
        self._timeout_seconds = timeout_seconds
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()
        self._watcher = threading.Thread(target=self._watch, name="engine-watchdog", daemon=True)
        self._watcher.start()

    def put(self, job: Job) -> None:
        """Queue a prepared job."""
        with self._changed:
            self._batcher.add(job, time.monotonic())
            self._metrics.queue_depth.labels("batch").set(len(self._batcher))
            self._changed.notify()

    def busy_seconds(self) -> float:
        """How long the engine has been at its present batch; 0 when it waits."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self, *, wait: bool = True) -> None:
        """End the threads after the current batch; what waits is dropped. An engine that hangs is left to itself."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._ended.set()
        if wait and not self._lost.is_set():
            self._thread.join()
            self._watcher.join()

    def _run(self) -> None:
        try:
            while batch := self._next():
                self._score(batch)
        except EngineLostError as error:
            self._lose(error)
        except Exception as error:  # noqa: BLE001  a thread that ends in silence would hang every creative after it
            _log.error("engine_thread_failed", error=type(error).__name__)
            self._lose(EngineLostError(f"internal error: {type(error).__name__}"))

    def _watch(self) -> None:
        interval = min(LOOK_SECONDS, self._timeout_seconds / 8)
        dog = Watchdog(self._timeout_seconds, interval)
        while not self._ended.wait(interval):
            attempt = None if self._busy_since is None else self._attempts
            if dog.sees(attempt, time.monotonic()):
                message = f"no answer within {self._timeout_seconds:g} s (ADSCORE_PIPELINE__ENGINE_TIMEOUT_SECONDS)"
                self._lose(EngineLostError(message))
                return

    def _lose(self, error: EngineLostError) -> None:
        with self._changed:
            first = not self._lost.is_set()
            self._lost.set()
            self._closing = True
        if first:
            self._ended.set()
            self._on_fatal(error)

    def _next(self) -> list[Job]:
        with self._changed:
            while not self._closing:
                now = time.monotonic()
                self._batcher.max_size = self._ceiling.size(now)
                self._metrics.batch_limit.set(self._batcher.max_size)
                batch = self._batcher.take(now)
                if batch:
                    self._metrics.queue_depth.labels("batch").set(len(self._batcher))
                    return batch
                self._changed.wait(self._batcher.due_in(now))
        return []

    def _score(self, batch: list[Job]) -> None:
        batch = [job for job in batch if not (job.cancelled and self._abandoned(job))]
        started = time.monotonic()
        with self._tracing.batch([job.trace for job in batch]):
            self._attempt(batch)
            for job in batch:
                while job.errors and not job.parts and job.attempts < MAX_ATTEMPTS:
                    self._attempt([job])
        if self._lost.is_set():
            return  # it answers after all, but the worker is ending and its records are left to the next one
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
        self._attempts += 1
        self._busy_since = time.monotonic()
        try:
            results = self._engines.score(prepared, self._out_of_memory)
        except EngineLostError:
            raise
        except Exception as error:  # noqa: BLE001  a broken bundle must not end the thread and hang every creative
            _log.error("engine_loop_failed", error=type(error).__name__)
            failed = {head: f"internal error: {type(error).__name__}" for head in self._engines.digests}
            results = [Scored(errors={head: failed[head] for head in job.wanted}) for job in batch]
        finally:
            self._busy_since = None
        for job, result in zip(batch, results, strict=True):
            job.attempts += 1
            job.parts = {**job.parts, **result.parts}
            job.errors = result.errors

    def _out_of_memory(self, rows: int) -> None:
        size = self._ceiling.exhausted(rows, time.monotonic())
        self._metrics.batch_limit.set(size)
        _log.warning("engine_out_of_memory", batch=rows, batches_now=size)
