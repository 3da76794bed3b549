"""The file to read: record in → event → scored → event out → offset committed. Threads, back-pressure, commit, drain.

One loop (the caller's thread) owns the consumer: it receives, commits, pauses and hands partitions over, and never
waits for work. Scoring has its own threads (`scoring.py`), and so has delivery (`delivering.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from kafka.errors import KafkaError

from worker.errors import CreativeError, FatalError
from worker.intake.events import parse_record
from worker.intake.source import Source
from worker.metrics import Metrics
from worker.pipeline.delivering import Assignment, Deliverer, Item
from worker.pipeline.job import Job
from worker.pipeline.scoring import ScoringFlow
from worker.types import Record, Withdrawal

_log = structlog.get_logger(__name__)

POLL_MS = 100
BUSY_WAIT_SECONDS = 0.02
HANDOVER_SECONDS = 8.0


@dataclass(frozen=True)
class RunLimits:
    """How much may be in flight, and when to stop by itself."""

    max_inflight: int
    drain_seconds: float
    transactional: bool = False
    """Offsets commit with the outputs (exactly-once), so the loop commits nothing itself."""
    commit_interval_seconds: float = 0.5
    max_messages: int | None = None
    until_idle_seconds: float | None = None


@dataclass
class _Handover:
    """Partitions to drain; `ready` lets the rebalance go on."""

    assignments: list[Assignment]
    deadline: float
    ready: Callable[[], None]


class Worker:
    """Consumes, scores, publishes and commits until told to stop.

    `assigned`, `drain`, `committable` and `lost` are the consumer's rebalance hooks; they run on its network thread.
    """

    def __init__(self, limits: RunLimits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._assignments: dict[int, Assignment] = {}
        self._inflight: dict[Item, Job | None] = {}
        self._handovers: list[_Handover] = []
        self._stopping = threading.Event()
        self._fatal: Exception | None = None
        self._bound = False
        self._received = 0
        self._busy_at = time.monotonic()
        self._commit_at = 0.0
        self._leaving = False
        self._evicted_from: set[int] = set()
        self._rewinding = threading.Event()
        self._committing = False
        self.turned_at = time.monotonic()
        """When the loop last turned; for `/livez`."""

    def bind(self, source: Source, flow: ScoringFlow, deliverer: Deliverer) -> None:
        """The parts to work with; they need the worker's hooks to be made, hence not in the constructor."""
        self._source, self._flow, self._deliverer = source, flow, deliverer
        self._bound = True

    # Called from any thread.

    def stop(self) -> None:
        """Take no new records, drain, and return from `run`. Safe in a signal handler."""
        self._stopping.set()

    @property
    def is_ready(self) -> bool:
        """Whether it takes part in the group; False while no broker answers."""
        return self._bound and self._source.joined

    def fail(self, error: Exception) -> None:
        """The worker can't go on: `run` raises it, and commits nothing that is not acknowledged."""
        with self._changed:
            self._fatal = self._fatal or error
            self._changed.notify_all()

    def finished(self, item: Item) -> None:
        """The item is done with; its place is free."""
        with self._changed:
            self._inflight.pop(item, None)
            self._metrics.inflight.set(len(self._inflight))
            self._changed.notify_all()

    # Rebalance hooks, on the consumer's network thread.

    def assigned(self, partitions: set[int]) -> None:
        """These partitions are ours from now on."""
        if self._evicted_from and not self._evicted_from <= partitions:
            # The group gave our partitions to another worker while we were silent: we were replaced.
            self.fail(
                FatalError("this worker was replaced while it was silent; nothing it held is committed", exit_code=1)
            )
            return
        self._evicted_from = set()
        self._busy_at = time.monotonic()
        with self._lock:
            self._assignments.update({partition: Assignment(partition) for partition in partitions})
        self._metrics.rebalances.labels("assigned").inc()
        _log.info("partitions_assigned", partitions=sorted(partitions))

    def drain(self, partitions: set[int], ready: Callable[[], None]) -> None:
        """These partitions are to be handed over: call `ready` once nothing of them is in flight."""
        if self._leaving:
            # Closing the consumer revokes too, and everything is settled by then.
            ready()
            return
        with self._changed:
            leaving = [self._assignments[partition] for partition in partitions if partition in self._assignments]
            self._handovers.append(_Handover(leaving, time.monotonic() + HANDOVER_SECONDS, ready))
            self._changed.notify_all()
        self._metrics.rebalances.labels("revoked").inc()
        _log.info("partitions_draining", partitions=sorted(partitions))

    def committable(self, partitions: set[int]) -> dict[int, int]:
        """What may be committed of these partitions."""
        if self._limits.transactional:
            return {}
        with self._lock:
            owned = {p: self._assignments[p].offsets.committable() for p in partitions if p in self._assignments}
        return {partition: offset for partition, offset in owned.items() if offset is not None}

    def evicted(self, partitions: set[int]) -> None:
        """The group has gone on without this worker: drop what is held, and join again.

        With exactly-once the next assignment tells whether another worker has taken over (`assigned`).
        """
        if self._limits.transactional and not self._leaving:
            self._evicted_from = set(partitions)
        self.lost(partitions)

    def reset(self) -> None:
        """A transaction came to nothing: the loop goes back to the committed offsets."""
        self._rewinding.set()

    def lost(self, partitions: set[int]) -> None:
        """These partitions aren't ours any more: drop what is held of them."""
        with self._changed:
            gone = [self._assignments.pop(partition) for partition in partitions if partition in self._assignments]
            self._drop(gone)
        for assignment in gone:
            self._deliverer.disowned(assignment)
        if gone:
            self._metrics.rebalances.labels("lost").inc()
            _log.info("partitions_gone", partitions=sorted(assignment.partition for assignment in gone))

    def _drop(self, assignments: list[Assignment]) -> None:
        """With the lock held: nothing of these assignments is published or counted any more."""
        for assignment in assignments:
            assignment.lost = True
        for item in [item for item in self._inflight if item.assignment.lost]:
            job = self._inflight.pop(item)
            if job is not None:
                job.cancel()
        self._metrics.inflight.set(len(self._inflight))
        self._changed.notify_all()

    # The loop.

    def run(self) -> None:
        """Work until stopped. Raises FatalError, or whatever `fail` was given."""
        self._busy_at = time.monotonic()
        while not self._is_over():
            self.turned_at = time.monotonic()
            self._step()
        self._drain_all()

    def _step(self) -> None:
        room = self._room()
        if self._rewinding.is_set():
            self._rewind()
        elif room:
            self._source.resume()
            for record in self._poll(POLL_MS, room):
                self._admit(record)
        else:
            self._turn_without_receiving()
        self._let_go()
        self._commit_when_due()

    def _room(self) -> int:
        room = self._limits.max_inflight - len(self._inflight)
        if self._limits.max_messages is not None:
            room = min(room, self._limits.max_messages - self._received)
        return max(0, room)

    def _rewind(self) -> None:
        """Go back to the committed offsets on every partition; tried again each turn while brokers are away."""
        self._source.pause()
        self._refuse(self._source.poll(0, 1))
        with self._changed:
            held = list(self._assignments.values())
            self._drop(held)
            self._assignments = {assignment.partition: Assignment(assignment.partition) for assignment in held}
            partitions = sorted(self._assignments)
        try:
            for partition in partitions:
                self._source.rewind(partition)
        except KafkaError as error:
            _log.warning("rewind_waits", error=type(error).__name__)
            return
        self._rewinding.clear()
        self._deliverer.restart()
        _log.warning("went_back_to_committed_offsets", partitions=partitions)

    def _refuse(self, records: list[Record]) -> None:
        """Have records received again later: only a partition that was assigned just now can give some while paused."""
        for origin in {record.origin.partition: record.origin for record in reversed(records)}.values():
            self._source.seek(origin.partition, origin.offset)

    def _turn_without_receiving(self) -> None:
        """Let heartbeats and hand-overs go on while there is no room, and wait a moment for some."""
        self._source.pause()
        self._refuse(self._source.poll(0, 1))
        with self._changed:
            if self._inflight and not self._fatal:
                self._changed.wait(BUSY_WAIT_SECONDS)

    def _poll(self, timeout_ms: int, room: int) -> list[Record]:
        before = dict(self._assignments)
        records = self._source.poll(timeout_ms, room)
        with self._lock:
            now = dict(self._assignments)
        # A partition that left and came back during the poll: these records may be of its earlier stay.
        back = {
            p for p in {record.origin.partition for record in records} if before.get(p, now.get(p)) is not now.get(p)
        }
        for partition in back & now.keys():
            self._source.rewind(partition)
        return [record for record in records if record.origin.partition in now.keys() - back]

    def _admit(self, record: Record) -> None:
        self._received += 1
        self._busy_at = time.monotonic()
        self._metrics.consumed.inc()
        with self._lock:
            assignment = self._assignments.get(record.origin.partition)
            if assignment is None:
                return
            assignment.offsets.received(record.origin.offset)
        try:
            content = parse_record(record)
        except CreativeError as error:
            item = self._track(Item(record, assignment, None))
            self._deliverer.admit(item)
            self._deliverer.done(item, error)
            return
        item = self._track(Item(record, assignment, content))
        self._deliverer.admit(item)
        if isinstance(content, Withdrawal):
            self._deliverer.done(item, content)
            return
        job = self._flow.submit(content, lambda outcome: self._deliverer.done(item, outcome))
        with self._lock:
            if item in self._inflight:
                self._inflight[item] = job

    def _track(self, item: Item) -> Item:
        with self._lock:
            self._inflight[item] = None
            self._metrics.inflight.set(len(self._inflight))
        return item

    def _let_go(self) -> None:
        """Let hand-overs go on whose partitions are drained, or whose time is up."""
        with self._lock:
            now = time.monotonic()
            over = [
                handover
                for handover in self._handovers
                if now >= handover.deadline or not any(item.offsets.unfinished for item in handover.assignments)
            ]
            self._handovers = [handover for handover in self._handovers if handover not in over]
        for handover in over:
            handover.ready()

    def _commit_when_due(self) -> None:
        now = time.monotonic()
        if now < self._commit_at or self._committing or self._rewinding.is_set():
            return
        self._commit_at = now + self._limits.commit_interval_seconds
        self._advance()
        offsets = self.committable(set(self._assignments))
        for partition, lag in self._source.lag().items():
            self._metrics.lag.labels(str(partition)).set(lag)
        if offsets:
            self._committing = True
            owners = {partition: self._assignments.get(partition) for partition in offsets}
            self._source.commit(offsets, lambda error: self._committed(offsets, owners, error))

    def _advance(self) -> None:
        """Step over gaps in the offsets (transaction markers), so that the lag reaches zero."""
        for partition, assignment in list(self._assignments.items()):
            if not assignment.offsets.unfinished:
                position = self._source.position(partition)
                if position is not None:
                    with self._lock:
                        assignment.offsets.advanced(position)

    def _committed(
        self, offsets: dict[int, int], owners: dict[int, Assignment | None], error: Exception | None
    ) -> None:
        self._committing = False
        self._metrics.commits.labels("error" if error else "ok").inc()
        if error is not None:
            _log.warning("commit_failed", error=type(error).__name__)
            return
        with self._lock:
            for partition, offset in offsets.items():
                owner = owners[partition]
                if owner is not None:
                    owner.offsets.committed(offset)

    # Ends.

    def _is_over(self) -> bool:
        if self._fatal is not None:
            raise self._fatal
        if self._stopping.is_set():
            return True
        if self._inflight:
            self._busy_at = time.monotonic()
            return False
        if self._limits.max_messages is not None and self._received >= self._limits.max_messages:
            return True
        idle = self._limits.until_idle_seconds
        return idle is not None and self._source.joined and time.monotonic() - self._busy_at >= idle

    def _drain_all(self) -> None:
        """Receive nothing more, finish what can be finished in time, commit it, and leave the rest to the next worker.

        Raises FatalError(3) when the broker doesn't answer in that time.
        """
        deadline = time.monotonic() + self._limits.drain_seconds
        # A part of the time is kept for the commit and for leaving the group.
        finish_by = deadline - 0.25 * self._limits.drain_seconds
        _log.info("draining", inflight=len(self._inflight))
        while self._inflight and time.monotonic() < finish_by and self._fatal is None:
            self.turned_at = time.monotonic()
            self._turn_without_receiving()
            self._let_go()
        if self._fatal is not None:
            raise self._fatal
        self._commit_last(deadline)

    def _commit_last(self, deadline: float) -> None:
        self._advance()
        offsets = self.committable(set(self._assignments))
        left_ms = max(1, int((deadline - time.monotonic()) * 1000))
        try:
            if offsets:
                self._source.commit_and_wait(offsets, left_ms // 2)
        except KafkaError as error:
            raise FatalError(
                f"the broker didn't take the last offsets within the drain's time-out ({type(error).__name__}); "
                "what was published behind them will be published again",
                exit_code=3,
            ) from error
        if self._deliverer.unsettled:
            raise FatalError(
                f"the broker didn't acknowledge {self._deliverer.unsettled} records within the drain's time-out; "
                "their offsets are not committed, they will be done again",
                exit_code=3,
            )
        _log.info("drained", committed=len(offsets), left=len(self._inflight))
        self.leave(max(0.001, (deadline - time.monotonic()) / 2))

    def leave(self, timeout_seconds: float) -> None:
        """Leave the group; nothing more is committed. Once is enough."""
        if not self._leaving:
            self._leaving = True
            self._source.close(int(timeout_seconds * 1000))
