"""The file to read: record in → event → scored → event out → offset committed. Threads, back-pressure, commit, drain.

One loop (the caller's thread) owns the consumer: it receives, commits, pauses and hands partitions over, and never
waits for work. Scoring has its own threads (`scoring.py`), and so has delivery (`delivering.py`).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import structlog
from kafka.errors import KafkaError, RebalanceInProgressError

from admodels.runtime.runner import EngineLostError
from worker.errors import CreativeError, FatalError
from worker.intake.cloudevents import attributes
from worker.intake.events import parse_record
from worker.intake.source import Source
from worker.metrics import Metrics
from worker.pipeline.delivering import Assignment, Deliverer, Item
from worker.pipeline.holdings import Holdings
from worker.pipeline.job import Outcome
from worker.pipeline.scoring import ScoringFlow
from worker.pipeline.suspects import Suspects
from worker.tracing import NoTracing, Tracing
from worker.types import Creative, Record, Withdrawal

_log = structlog.get_logger(__name__)

POLL_MS = 100
BUSY_WAIT_SECONDS = 0.02
REJOIN_SECONDS = 1.0
COMMIT_OVERDUE_SECONDS = 1.0
"""Without a commit for so long (a group that joins takes none) nothing more is received, so that what a crash would
repeat doesn't grow."""
COMMIT_ANSWER_SECONDS = 10.0
"""An answer that takes longer may never come; committing the same offsets again does no harm."""
MAX_INFLIGHT_BYTES = 256 * 1024 * 1024


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


class Worker:
    """Consumes, scores, publishes and commits until told to stop. `holdings` are its partitions and records."""

    def __init__(self, limits: RunLimits, metrics: Metrics, suspects: Suspects, tracing: Tracing | None = None) -> None:
        self._limits, self._metrics, self._suspects = limits, metrics, suspects
        self._tracing = tracing or NoTracing()
        self.holdings = Holdings(metrics, disowned=self._disowned, commits=not limits.transactional)
        self._stopping = threading.Event()
        self._rewinding = threading.Event()
        self._fatal: Exception | None = None
        self._bound = False
        self._received = 0
        self._busy_at = 0.0
        self._commit_at = 0.0
        self._lagging: set[int] = set()
        self._committing_since: float | None = None
        self._committed_at = time.monotonic()
        self._joined_at: float | None = None
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

    @property
    def is_member(self) -> bool:
        """Whether the group has confirmed this worker lately."""
        return not self._bound or self._source.is_member

    def fail(self, error: Exception) -> None:
        """The worker can't go on: `run` raises it, and commits nothing that is not acknowledged."""
        if isinstance(error, EngineLostError):
            self._suspects.keep()  # a lost engine is a death; anything else says nothing about the records
        self._fatal = self._fatal or error
        self.holdings.wake()

    def finished(self, item: Item) -> bool:
        """The item is done with; False when its partition was lost before, so that it doesn't count."""
        self._suspects.release(item)
        counts = self.holdings.finished(item)
        # The loop stands still while a hand-over waits, maybe for this very suspect.
        self._run_a_suspect()
        return counts

    def reset(self) -> None:
        """A transaction came to nothing: the loop goes back to the committed offsets."""
        self._rewinding.set()

    def _disowned(self, assignment: Assignment) -> None:
        self._suspects.disowned(assignment)
        self._deliverer.disowned(assignment)

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
        self._run_a_suspect()
        self._commit_when_due()

    def _room(self) -> int:
        """How many records may be received now."""
        overdue = time.monotonic() - self._committed_at > self._limits.commit_interval_seconds + COMMIT_OVERDUE_SECONDS
        if overdue and not self._limits.transactional:
            return 0
        if self._suspects.waiting or self.holdings.inflight_bytes >= MAX_INFLIGHT_BYTES:
            return 0
        room = self._limits.max_inflight - self.holdings.inflight
        if self._limits.max_messages is not None:
            room = min(room, self._limits.max_messages - self._received)
        return max(0, room)

    def _rewind(self) -> None:
        """Go back to the committed offsets on every partition; tried again each turn while brokers are away."""
        self._source.pause()
        self._refuse(self._source.poll(0, 1))
        partitions = self.holdings.renew()
        self._suspects.clear()
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
        if self._fatal is None:
            self.holdings.wait(BUSY_WAIT_SECONDS)

    def _poll(self, timeout_ms: int, room: int) -> list[Record]:
        before = self.holdings.assignments()
        records = self._source.poll(timeout_ms, room)
        now = self.holdings.assignments()
        # A partition that left and came back during the poll: these records may be of its earlier stay.
        polled = {record.origin.partition for record in records}
        back = {
            partition for partition in polled if before.get(partition, now.get(partition)) is not now.get(partition)
        }
        try:
            for partition in back & now.keys():
                self._source.rewind(partition)
        except KafkaError as error:  # the broker went away meanwhile: all partitions go back once it answers
            _log.warning("rewind_waits", error=type(error).__name__)
            self._rewinding.set()
            return []
        return [record for record in records if record.origin.partition in now.keys() - back]

    def _admit(self, record: Record) -> None:
        self._received += 1
        self._busy_at = time.monotonic()
        self._metrics.consumed.inc()
        assignment = self.holdings.received(record)
        if assignment is None:
            return
        try:
            content: Creative | Withdrawal | CreativeError = parse_record(record)
        except CreativeError as error:
            content = error
        item = Item(record, assignment, None if isinstance(content, CreativeError) else content)
        trace = attributes(record).trace if isinstance(content, CreativeError) else content.trace
        item.trace = self._tracing.receive(record, trace)
        self.holdings.hold(item)
        self._deliverer.admit(item)
        if isinstance(content, Creative):
            if not self._suspects.stop(item, lambda error: self._deliverer.done(item, error)):
                self._score(item, content, alone=False)
        else:
            self._deliverer.done(item, content)

    def _score(self, item: Item, creative: Creative, *, alone: bool) -> None:
        def before_decoding() -> None:
            self._suspects.hold(item, alone=alone)

        def decided(outcome: Outcome) -> None:
            if alone:
                # It is innocent, and until it is published a death would be another's: its mark goes before that one
                # can begin.
                self._suspects.release(item)
            self._deliverer.done(item, outcome)

        job = self._flow.submit(creative, decided, before_decoding, item.trace)
        self.holdings.working(item, job)

    def _run_a_suspect(self) -> None:
        """Records that a worker held when it died run one by one, with nothing else in flight."""
        item = self._suspects.take(self.holdings.undecided) if self._suspects.waiting else None
        if item is not None and isinstance(item.content, Creative):
            self._score(item, item.content, alone=True)

    def _commit_when_due(self) -> None:
        now = time.monotonic()
        unanswered = self._committing_since is not None and now - self._committing_since < COMMIT_ANSWER_SECONDS
        if now < self._commit_at or unanswered or self._rewinding.is_set():
            return
        self._commit_at = now + self._limits.commit_interval_seconds
        self._advance()
        offsets, owners = self.holdings.committable(), self.holdings.assignments()
        self._tell_lag()
        if not offsets:
            self._committed_at = now
        else:
            self._committing_since = now
            self._source.commit(offsets, lambda error: self._committed(offsets, owners, error))

    def _tell_lag(self) -> None:
        """A partition that is gone takes its lag along: its last one would stand for as long as this worker does."""
        lags = self._source.lag()
        for partition in self._lagging - lags.keys():
            self._metrics.lag.remove(str(partition))
        for partition, lag in lags.items():
            self._metrics.lag.labels(str(partition)).set(lag)
        self._lagging = set(lags)

    def _advance(self) -> None:
        """Step over gaps in the offsets (transaction markers), so that the lag reaches zero."""
        for partition, assignment in self.holdings.assignments().items():
            position = None if assignment.offsets.unfinished else self._source.position(partition)
            if position is not None:
                self.holdings.advanced(assignment, position)

    def _committed(self, offsets: dict[int, int], owners: dict[int, Assignment], error: Exception | None) -> None:
        self._committing_since = None
        self._metrics.commits.labels("error" if error else "ok").inc()
        if error is not None:
            _log.warning("commit_failed", error=type(error).__name__)
        else:
            self._committed_at = time.monotonic()
            self.holdings.committed({p: offset for p, offset in offsets.items() if p in owners}, owners)

    # Ends.

    def _is_over(self) -> bool:
        if self._fatal is not None:
            raise self._fatal
        self._end_if_replaced()
        if self._stopping.is_set():
            return True
        if self.holdings.inflight:
            self._busy_at = time.monotonic()
            return False
        if self._limits.max_messages is not None and self._received >= self._limits.max_messages:
            return True
        idle = self._limits.until_idle_seconds
        since = max(self._busy_at, self.holdings.assigned_at)
        return idle is not None and self._source.joined and time.monotonic() - since >= idle

    def _end_if_replaced(self) -> None:
        """With exactly-once: evicted, back in the group, and the partitions are another worker's. Raises FatalError."""
        if not self._limits.transactional or not self.holdings.taken_over() or not self._source.joined:
            self._joined_at = None
            return
        self._joined_at = self._joined_at or time.monotonic()
        # The new assignment is told a moment after the group is joined.
        if time.monotonic() - self._joined_at >= REJOIN_SECONDS:
            raise FatalError("this worker was replaced while it was silent; nothing it held is committed", exit_code=1)

    def _drain_all(self) -> None:
        """Receive nothing more, finish what can be finished in time, commit it, and leave the rest to the next worker.

        Raises FatalError(3) when the broker doesn't answer in that time.
        """
        deadline = time.monotonic() + self._limits.drain_seconds
        # A part of the time is kept for the commit and for leaving the group.
        finish_by = deadline - 0.25 * self._limits.drain_seconds
        _log.info("draining", inflight=self.holdings.inflight)
        while self.holdings.inflight and time.monotonic() < finish_by and self._fatal is None:
            self.turned_at = time.monotonic()
            self._turn_without_receiving()
            self._run_a_suspect()
        if self._fatal is not None:
            raise self._fatal
        self._commit_last(deadline)

    def _commit_last(self, deadline: float) -> None:
        self._advance()
        while offsets := self.holdings.committable():
            left_ms = max(1, int((deadline - time.monotonic()) * 1000))
            try:
                self._source.commit_and_wait(offsets, left_ms // 2)
                break
            except RebalanceInProgressError as error:
                # The group takes no offsets until all have joined again; polling does that.
                if time.monotonic() >= deadline - 0.1 * self._limits.drain_seconds:
                    raise _uncommitted(error) from error
                self._refuse(self._source.poll(POLL_MS, 1))
            except KafkaError as error:
                raise _uncommitted(error) from error
        if self._deliverer.unsettled:
            raise FatalError(
                f"the broker didn't acknowledge {self._deliverer.unsettled} records within the drain's time-out; "
                "their offsets are not committed, they will be done again",
                exit_code=3,
            )
        _log.info("drained", left=self.holdings.inflight)
        self.leave(max(0.001, (deadline - time.monotonic()) / 2))

    def leave(self, timeout_seconds: float) -> None:
        """Leave the group; nothing more is committed. Once is enough."""
        if self.holdings.leave():
            self._suspects.clear()
            self._source.close(int(timeout_seconds * 1000))


def _uncommitted(error: KafkaError) -> FatalError:
    return FatalError(
        f"the broker didn't take the last offsets within the drain's time-out ({type(error).__name__}); "
        "what was published behind them will be published again",
        exit_code=3,
    )
