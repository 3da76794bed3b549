"""Exactly-once on stand-ins: whole steps in order, failed ones again, and the end of a worker that was replaced."""

from typing import Any

from tests.fakes import eventually, record
from tests.worker.pipeline.rig import BAD, DLQ, OUT
from worker.errors import FatalError


def test_exactly_once_hands_outcomes_over_in_the_order_of_their_offsets(make: Any) -> None:
    rig = make(transactional=True)
    unreadable = record(10, partition=1, value=b"{nonsense")
    rig.offer(*(record(offset) for offset in range(3)), record(9, partition=1), unreadable)
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 4)
    rig.flow.finish("cr-0-2")
    rig.flow.finish("cr-0-1", BAD)
    rig.flow.finish("cr-1-9")
    eventually(lambda: rig.count("scored") == 1)
    eventually(lambda: rig.sink.keys(DLQ) == ["cr-1-10"])
    assert rig.sink.keys(OUT) == ["cr-1-9"], "nothing may pass an unfinished record of its partition"
    rig.flow.finish("cr-0-0")
    eventually(lambda: rig.count("scored") == 3)
    assert [outgoing.origin.offset for outgoing in rig.sink.put_ if outgoing.origin.partition == 0] == [0, 1, 2]
    assert rig.source.commits == [], "offsets commit with the outputs, never beside them"


def test_a_failed_step_goes_back_to_the_committed_offsets(make: Any) -> None:
    rig = make(transactional=True)
    rig.sink.fail_next = 1
    rig.offer(record(0, "a", lastmod=9), record(1, "b"))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 2)
    rig.flow.finish("a")
    eventually(lambda: (0, -1) in rig.source.seeks and (1, -1) in rig.source.seeks)
    assert rig.count("scored") == 0
    # The records come again; what was staged is undone, so the same revision is published.
    rig.offer(record(0, "a", lastmod=5), record(1, "b"))
    eventually(lambda: len(rig.flow.submitted) == 4)
    rig.flow.finish("a", last=True)
    rig.flow.finish("b", last=True)
    eventually(lambda: rig.count("scored") == 2)
    assert rig.count("superseded") == 0
    assert [[outgoing.origin.offset for outgoing in step] for step in rig.sink.steps] in ([[0], [1]], [[0, 1]])


def test_exactly_once_ends_when_another_worker_has_taken_over(make: Any) -> None:
    rig = make(transactional=True)
    rig.start()
    rig.held.evicted({0, 1})
    rig.held.assigned({0})
    error = rig.ended()
    assert isinstance(error, FatalError)
    assert error.exit_code == 1


def test_exactly_once_goes_on_when_the_same_partitions_come_back(make: Any) -> None:
    rig = make(transactional=True)
    rig.start()
    rig.held.evicted({0, 1})
    rig.held.assigned({0, 1})
    rig.offer(record(0))
    eventually(lambda: rig.flow.submitted)
    rig.flow.finish("cr-0-0")
    eventually(lambda: rig.count("scored") == 1)
