"""What this worker holds: its partitions, the records in flight, and what is about to be handed over.

Shared by three threads (the loop, the delivery, the consumer's network thread with its rebalance hooks), so every
method takes the one lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from worker.metrics import Metrics
from worker.pipeline.delivering import Assignment, Item
from worker.pipeline.job import Job
from worker.types import Record

_log = structlog.get_logger(__name__)

HANDOVER_SECONDS = 8.0
"""Longest wait for in-flight work before a rebalance goes on; heartbeats go on meanwhile."""


@dataclass
class _Handover:
    """Partitions to drain; `ready` lets the rebalance go on."""

    assignments: list[Assignment]
    deadline: float
    ready: Callable[[], None]


class Holdings:
    """The rebalance hooks are `assigned`, `drain`, `committable`, `lost` and `evicted` (see `intake.source.Ownership`).

    Args:
        disowned: called for each assignment that has ended.
        commits: whether the loop commits offsets; with exactly-once they commit with the outputs.
    """

    def __init__(self, metrics: Metrics, *, disowned: Callable[[Assignment], None], commits: bool) -> None:
        self._metrics, self._disowned, self._commits = metrics, disowned, commits
        self._changed = threading.Condition()
        self._assignments: dict[int, Assignment] = {}
        self._inflight: dict[Item, Job | None] = {}
        self._bytes = 0
        self._handovers: list[_Handover] = []
        self._leaving = False
        self._evicted_from: set[int] = set()
        self.assigned_at = time.monotonic()

    # Records in flight.

    @property
    def inflight(self) -> int:
        """Records received and not finished."""
        return len(self._inflight)

    @property
    def undecided(self) -> int:
        """Those without an outcome. The others touch no decoder and no engine: they wait to be written."""
        with self._changed:
            return sum(item.outcome is None for item in self._inflight)

    @property
    def inflight_bytes(self) -> int:
        """Bytes of their values."""
        return self._bytes

    def received(self, record: Record) -> Assignment | None:
        """Note that a record was received; None when its partition has gone meanwhile."""
        with self._changed:
            assignment = self._assignments.get(record.origin.partition)
            if assignment is not None:
                assignment.offsets.received(record.origin.offset)
            return assignment

    def hold(self, item: Item) -> None:
        """The record is in flight from now on."""
        with self._changed:
            if not item.assignment.lost:
                self._inflight[item] = None
                self._count(item, 1)

    def working(self, item: Item, job: Job) -> None:
        """The job that scores the record, so that it can be cancelled."""
        with self._changed:
            if item in self._inflight:
                self._inflight[item] = job

    def finished(self, item: Item) -> bool:
        """The record is done with; False when it was lost before, so that it doesn't count."""
        with self._changed:
            if self._inflight.pop(item, self) is not self:
                self._count(item, -1)
            counts = not item.assignment.lost
            if counts:
                item.assignment.offsets.finished(item.record.origin.offset)
            self._changed.notify_all()
        if self._handovers:
            self.let_go()
        return counts

    def wait(self, seconds: float) -> None:
        """Wait for something to change, if anything is in flight."""
        with self._changed:
            if self._inflight:
                self._changed.wait(seconds)

    def wake(self) -> None:
        """End a `wait`."""
        with self._changed:
            self._changed.notify_all()

    # Partitions.

    def assignments(self) -> dict[int, Assignment]:
        """The partitions owned now."""
        with self._changed:
            return dict(self._assignments)

    def assigned(self, partitions: set[int]) -> None:
        """Hook: these partitions are ours from now on."""
        with self._changed:
            self._assignments.update({partition: Assignment(partition) for partition in partitions})
            self._evicted_from -= partitions
            self.assigned_at = time.monotonic()
        self._metrics.rebalances.labels("assigned").inc()
        _log.info("partitions_assigned", partitions=sorted(partitions))

    def drain(self, partitions: set[int], ready: Callable[[], None]) -> None:
        """Hook: these partitions are to be handed over; call `ready` once nothing of them is in flight.

        The consumer's `poll` stands still until then, so the loop can't see to it: whoever finishes the last record
        does, or a timer.
        """
        with self._changed:
            if self._leaving:
                # Closing the consumer revokes too, and everything is settled by then.
                ready()
                return
            leaving = [self._assignments[partition] for partition in partitions if partition in self._assignments]
            self._handovers.append(_Handover(leaving, time.monotonic() + HANDOVER_SECONDS, ready))
        timer = threading.Timer(HANDOVER_SECONDS, self.let_go)
        timer.daemon = True
        timer.start()
        self.let_go()
        self._metrics.rebalances.labels("revoked").inc()
        _log.info("partitions_draining", partitions=sorted(partitions))

    def committable(self, partitions: set[int] | None = None) -> dict[int, int]:
        """Hook: what may be committed of these partitions (of all, where none are named)."""
        if not self._commits or self._leaving:
            # While leaving, kafka-python would wait for the answer as long as for any request, past the drain's time.
            return {}
        with self._changed:
            owned = {
                partition: assignment.offsets.committable()
                for partition, assignment in self._assignments.items()
                if partitions is None or partition in partitions
            }
        return {partition: offset for partition, offset in owned.items() if offset is not None}

    def committed(self, offsets: dict[int, int], owners: dict[int, Assignment]) -> None:
        """The broker has taken these offsets of these assignments."""
        with self._changed:
            for partition, offset in offsets.items():
                owners[partition].offsets.committed(offset)

    def advanced(self, assignment: Assignment, position: int) -> None:
        """The consumer stands at `position`: everything before was received, or is a gap."""
        with self._changed:
            assignment.offsets.advanced(position)

    def lost(self, partitions: set[int]) -> None:
        """Hook: these partitions aren't ours any more; drop what is held of them."""
        with self._changed:
            gone = [self._assignments.pop(partition) for partition in partitions if partition in self._assignments]
            self._drop(gone)
        for assignment in gone:
            self._disowned(assignment)
        if gone:
            self._metrics.rebalances.labels("lost").inc()
            _log.info("partitions_gone", partitions=sorted(assignment.partition for assignment in gone))

    def evicted(self, partitions: set[int]) -> None:
        """Hook: the group has gone on without this worker; drop what is held and join again."""
        with self._changed:
            if not self._leaving:
                self._evicted_from |= partitions
        _log.warning("evicted", partitions=sorted(partitions))
        self.lost(partitions)

    def taken_over(self) -> bool:
        """Whether partitions this worker was evicted from haven't come back."""
        return bool(self._evicted_from)

    def renew(self) -> list[int]:
        """Begin every assignment anew, dropping all that is in flight; the partitions."""
        with self._changed:
            held = list(self._assignments.values())
            self._drop(held)
            self._assignments = {assignment.partition: Assignment(assignment.partition) for assignment in held}
            return sorted(self._assignments)

    def let_go(self) -> None:
        """Let hand-overs go on whose partitions are drained, or whose time is up."""
        now = time.monotonic()
        with self._changed:
            over = [
                handover
                for handover in self._handovers
                if now >= handover.deadline or not any(item.offsets.unfinished for item in handover.assignments)
            ]
            self._handovers = [handover for handover in self._handovers if handover not in over]
        for handover in over:
            handover.ready()

    def leave(self) -> bool:
        """Hand-overs don't wait any more; False when it was said before."""
        with self._changed:
            before, self._leaving = self._leaving, True
            return not before

    def _drop(self, assignments: list[Assignment]) -> None:
        for assignment in assignments:
            assignment.lost = True
        for item in [item for item in self._inflight if item.assignment.lost]:
            job = self._inflight.pop(item)
            item.trace.end("lost")
            self._count(item, -1)
            if job is not None:
                job.cancel()
        self._changed.notify_all()

    def _count(self, item: Item, sign: int) -> None:
        self._bytes += sign * len(item.record.value or b"")
        self._metrics.inflight.set(len(self._inflight))
