"""Offsets and batches as state machines: any order of events, checked against the plainest model of each."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from worker.delivery.offsets import PartitionOffsets
from worker.scoring.batch import Batcher

EFFORT = settings(max_examples=50, stateful_step_count=40, deadline=None)


class OffsetsMachine(RuleBasedStateMachine):
    """Records with gaps between them finish in any order; what may be committed is read off a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = PartitionOffsets()
        self.received: list[int] = []
        self.finished: set[int] = set()
        self.position: int | None = None
        self.committed: int | None = None

    @property
    def unfinished(self) -> list[int]:
        return [offset for offset in self.received if offset not in self.finished]

    @rule(gap=st.integers(0, 3))
    def receive(self, gap: int) -> None:
        offset = (self.position or 0) + gap
        self.offsets.received(offset)
        self.received.append(offset)
        self.position = offset + 1

    @rule(by=st.integers(-2, 3))
    def advance(self, by: int) -> None:
        """The consumer steps over a gap; a position that it had before tells nothing."""
        target = max(0, (self.position or 0) + by)
        self.offsets.advanced(target)
        self.position = target if self.position is None else max(self.position, target)

    @precondition(lambda self: self.unfinished)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(self.unfinished))
        self.offsets.finished(offset)
        self.finished.add(offset)

    @precondition(lambda self: self.finished)
    @rule(data=st.data())
    def finish_twice(self, data: st.DataObject) -> None:
        with pytest.raises(ValueError, match="not unfinished"):
            self.offsets.finished(data.draw(st.sampled_from(sorted(self.finished))))

    @precondition(lambda self: self.position)
    @rule(back=st.integers(1, 3))
    def receive_again(self, back: int) -> None:
        with pytest.raises(ValueError, match="new tracker"):
            self.offsets.received((self.position or 0) - back)

    @rule()
    def commit(self) -> None:
        offset = self.offsets.committable()
        if offset is not None:
            assert self.committed is None or offset > self.committed, "commits only move forwards"
            self.offsets.committed(offset)
            self.committed = offset

    @invariant()
    def never_past_the_unfinished(self) -> None:
        target = self.unfinished[0] if self.unfinished else self.position
        assert self.offsets.committable() == (target if target != self.committed else None)
        assert self.offsets.unfinished == len(self.unfinished)


class BatchMachine(RuleBasedStateMachine):
    """Items wait with the time they came; a batch is due by size or by the oldest one's age, and keeps their order."""

    @initialize(size=st.integers(1, 5), delay=st.sampled_from([0.0, 0.5, 2.0]))
    def begin(self, size: int, delay: float) -> None:
        self.batcher: Batcher[int] = Batcher(size, delay)
        self.size, self.delay, self.now = size, delay, 100.0
        self.waiting: list[tuple[float, int]] = []
        self.came = self.went = 0

    @rule()
    def add(self) -> None:
        self.batcher.add(self.came, self.now)
        self.waiting.append((self.now, self.came))
        self.came += 1

    @rule(seconds=st.sampled_from([0.0, 0.25, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(size=st.integers(1, 5))
    def resize(self, size: int) -> None:
        self.batcher.max_size = self.size = size

    @rule()
    def take(self) -> None:
        due = bool(self.waiting) and (len(self.waiting) >= self.size or self.now - self.waiting[0][0] >= self.delay)
        batch = self.batcher.take(self.now)
        assert bool(batch) == due
        assert batch == [item for _, item in self.waiting[: len(batch)]]
        assert len(batch) == (min(self.size, len(self.waiting)) if due else 0)
        self.waiting = self.waiting[len(batch) :]
        self.went += len(batch)

    @invariant()
    def nothing_is_lost_and_waiting_has_an_end(self) -> None:
        assert len(self.batcher) == len(self.waiting) == self.came - self.went
        due = self.batcher.due_in(self.now)
        assert (due is None) == (not self.waiting)
        assert due is None or 0.0 <= due <= self.delay


TestOffsets = OffsetsMachine.TestCase
TestOffsets.settings = EFFORT
TestBatches = BatchMachine.TestCase
TestBatches.settings = EFFORT
