"""A whole worker inside this process, with a source and an outbox in memory: everything but Kafka and Redis."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from typing import cast

from worker.commands.bench_rig import Offer, Result, Stages, read_stages
from worker.commands.compose import scoring_flow
from worker.delivery.cache import ScoreCache
from worker.delivery.marks import Marks
from worker.delivery.outbox import Outgoing
from worker.delivery.revisions import Revisions
from worker.errors import FatalError
from worker.intake.source import Source
from worker.metrics import Metrics
from worker.pipeline.delivering import Deliverer
from worker.pipeline.messages import Delivery
from worker.pipeline.suspects import Suspects
from worker.pipeline.worker import RunLimits, Worker
from worker.settings_schema import Settings
from worker.types import Origin, Record

TOPIC, OUTPUT, DLQ = "bench.input", "bench.output", "bench.dlq"
UNBOUNDED = 1 << 40
CLOSE_SECONDS = 2.0


class MemorySource:
    """One partition in memory, with the methods of `Source`: records come once they are due, commits are accepted."""

    joined = True
    is_member = True

    def __init__(self) -> None:
        self._offers: deque[Offer] = deque()
        self._changed = threading.Condition()
        self._paused = False
        self._next = 0
        self._answers: list[Callable[[Exception | None], None]] = []

    def offer(self, offers: Iterable[Offer]) -> None:
        """Have records arrive when they are due; `offers` are in that order."""
        with self._changed:
            self._offers.extend(offers)
            self._changed.notify()

    def withdraw(self) -> int:
        """Drop what wasn't received; how many that were."""
        with self._changed:
            dropped = len(self._offers)
            self._offers.clear()
            return dropped

    def poll(self, timeout_ms: int, max_records: int) -> list[Record]:
        """At most `max_records` that are due, after at most `timeout_ms`."""
        answers, self._answers = self._answers, []
        for answer in answers:
            answer(None)
        deadline = time.monotonic() + timeout_ms / 1000
        with self._changed:
            while True:
                now = time.monotonic()
                due = 0 if self._paused else self._due(now, max_records)
                if due or now >= deadline:
                    return [self._record(self._offers.popleft()) for _ in range(due)]
                following = self._offers[0].due if self._offers and not self._paused else deadline
                self._changed.wait(max(0.0, min(deadline, following) - now))

    def _due(self, now: float, most: int) -> int:
        count = 0
        for offer in self._offers:
            if count == most or offer.due > now:
                break
            count += 1
        return count

    def _record(self, offer: Offer) -> Record:
        self._next += 1
        return Record(Origin(TOPIC, 0, self._next - 1, offer.timestamp_ms), offer.key, offer.value)

    def commit(self, offsets: Mapping[int, int], done: Callable[[Exception | None], None]) -> None:
        """Accepted at the next poll, as a broker's answer comes."""
        del offsets
        self._answers.append(done)

    def commit_and_wait(self, offsets: Mapping[int, int], timeout_ms: int) -> None:
        """Accepted."""

    def position(self, partition: int) -> int | None:
        """The next offset."""
        del partition
        return self._next

    def seek(self, partition: int, offset: int) -> None:
        """Never asked for: nothing is received while it is paused."""

    def rewind(self, partition: int) -> None:
        """Never asked for: no step fails."""

    def lag(self) -> dict[int, int]:
        """What waits."""
        return {0: len(self._offers)}

    def pause(self) -> None:
        """Receive nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Receive again."""
        self._paused = False

    def close(self, timeout_ms: int) -> None:
        """Nothing to leave."""


class MemoryOutbox:
    """Delivered at once: what is put is durable, and told."""

    in_order = False
    full = False

    def __init__(self, results: SimpleQueue[Result]) -> None:
        self._results = results

    def put(self, outgoing: Outgoing) -> None:
        """Note the moment, and settle."""
        message = outgoing.message
        if message is not None:
            code = next((value for name, value in message.headers if name == "adscore_dlq_code"), None)
            scored = message.value if message.topic == OUTPUT else None
            told = None if message.topic == OUTPUT else (code or b"").decode()
            self._results.put(Result(message.key or b"", time.monotonic(), scored, told))
        outgoing.settled(None)

    def due_in(self, now: float) -> float | None:
        """Nothing waits here."""
        del now
        return None

    def flush(self) -> None:
        """Nothing to do."""

    def recover(self, stopping: Callable[[], bool]) -> None:
        """Never needed."""

    def close(self, timeout_seconds: float) -> None:
        """Nothing to close."""


class ProcessRig:
    """The worker's loop on a thread of its own."""

    def __init__(self, worker: Worker, source: MemorySource, results: SimpleQueue[Result], metrics: Metrics) -> None:
        self._worker, self._source, self._metrics = worker, source, metrics
        self.results = results
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="bench-worker", daemon=True)

    def offer(self, offers: Iterable[Offer]) -> None:
        """Received once they are due."""
        self._source.offer(offers)

    def start(self) -> None:
        """Start the loop."""
        self._thread.start()

    def withdraw(self) -> int:
        """What isn't received yet never will be."""
        return self._source.withdraw()

    def stages(self) -> Stages:
        """From the metrics' registry."""
        return read_stages(self._metrics.registry.collect())

    def check(self) -> None:
        """Raises FatalError where the loop has ended."""
        if self._error is not None:
            raise FatalError(f"the worker ended: {self._error}", exit_code=1) from self._error

    def stop(self) -> None:
        """End the loop; what is in flight is given up."""
        self._source.withdraw()
        self._worker.stop()
        if self._thread.ident is not None:
            self._thread.join(2 * CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            self._worker.run()
        except Exception as error:  # noqa: BLE001  told by `check`, on the thread that asks
            self._error = error


@contextmanager
def process_rig(settings: Settings, cache: ScoreCache) -> Iterator[ProcessRig]:
    """A worker by the settings but for Kafka and Redis; all of it ends with the block. Raises FatalError."""
    metrics = Metrics()
    limits = RunLimits(max_inflight=settings.pipeline.max_inflight, drain_seconds=CLOSE_SECONDS)
    worker = Worker(limits, metrics, Suspects(Marks(None, "bench")))
    results: SimpleQueue[Result] = SimpleQueue()
    source = MemorySource()
    with _quiet(), scoring_flow(settings, cache=cache, metrics=metrics, on_fatal=worker.fail) as flow:
        revisions = Revisions(None, output_topic=OUTPUT, keep_seconds=60, max_creatives=settings.redis.revision_max)
        deliverer = Deliverer(
            MemoryOutbox(results),
            revisions,
            Delivery(OUTPUT, DLQ, UNBOUNDED, UNBOUNDED, settings.event.source, "bench"),
            metrics,
            finished=worker.finished,
            step_failed=worker.reset,
            on_fatal=worker.fail,
        )
        # It stands in for the one class that there is otherwise.
        worker.bind(cast(Source, source), flow, deliverer)
        worker.holdings.assigned({0})
        rig = ProcessRig(worker, source, results, metrics)
        try:
            yield rig
        finally:
            rig.stop()
            deliverer.close(CLOSE_SECONDS)
            flow.close(wait=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """A worker tells of its partitions and its drain; who asked for figures has no use for that."""
    log = logging.getLogger("worker.pipeline")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)
