"""Records that a worker held when it died: they run one by one, and only a death while alone condemns one."""

import time
from typing import Any

import pytest

from admodels.runtime.runner import EngineLostError
from tests.fakes import eventually, record
from tests.worker.pipeline.rig import DLQ


def test_marked_records_run_one_by_one_and_alone(make: Any) -> None:
    rig = make(marks={0: {0: "together", 1: "together"}})
    rig.offer(*(record(offset) for offset in range(3)))
    rig.start()
    eventually(lambda: rig.flow.submitted == ["cr-0-2"])
    time.sleep(0.05)
    assert rig.flow.submitted == ["cr-0-2"], "a suspect waits until nothing else is in flight"
    rig.flow.finish("cr-0-2")
    eventually(lambda: rig.flow.submitted == ["cr-0-2", "cr-0-0"])
    assert rig.marks.marks[0][0] == "alone"
    rig.flow.finish("cr-0-0")
    eventually(lambda: rig.flow.submitted == ["cr-0-2", "cr-0-0", "cr-0-1"])
    rig.flow.finish("cr-0-1")
    eventually(lambda: rig.source.committed.get(0) == 3)
    assert rig.marks.marks[0] == {}
    assert rig.sink.keys(DLQ) == []


def test_who_survived_alone_is_innocent_before_the_next_begins(make: Any) -> None:
    """Although its output isn't acknowledged yet: a death from now on is another's."""
    rig = make(marks={0: {0: "together", 1: "together"}})
    rig.sink.hold = True
    rig.offer(*(record(offset) for offset in range(3)))
    rig.start()
    eventually(lambda: rig.flow.submitted == ["cr-0-2"])
    rig.flow.finish("cr-0-2")
    for name, left in (("cr-0-0", {0: "alone", 1: "together"}), ("cr-0-1", {1: "alone"})):
        eventually(lambda name=name: rig.flow.submitted[-1] == name)
        assert rig.marks.marks[0] == {2: "together"} | left
        rig.flow.finish(name)
    eventually(lambda: rig.marks.marks[0] == {2: "together"})
    assert rig.count("scored") == 0, "it was acknowledged, so this showed nothing"


@pytest.mark.parametrize("transactional", [False, True])
def test_a_finished_record_that_waits_for_its_turn_behind_a_suspect_doesnt_hold_it_back(
    make: Any, transactional: bool
) -> None:
    rig = make(marks={0: {0: "together", 2: "together"}}, transactional=transactional)
    rig.offer(record(0, "a"), record(1, "a", lastmod=2), record(2, "b"))
    rig.start()
    eventually(lambda: rig.flow.submitted == ["a"])
    rig.flow.finish("a")
    eventually(lambda: rig.flow.submitted == ["a", "a"])
    assert rig.marks.marks[0][0] == "alone"
    rig.flow.finish("a")
    eventually(lambda: rig.flow.submitted == ["a", "a", "b"])
    rig.flow.finish("b")
    eventually(lambda: rig.count("scored") == 3)


def test_a_lost_engine_leaves_its_marks_and_any_other_end_takes_them_away(make: Any) -> None:
    for error, left in ((EngineLostError("sticky"), {0: "together", 1: "together"}), (KeyError("defect"), {})):
        rig = make()
        rig.offer(record(0), record(1))
        rig.start()
        eventually(lambda rig=rig: len(rig.flow.submitted) == 2)
        rig.worker.fail(error)
        assert rig.ended() is error
        rig.worker.leave(1)
        rig.held.lost({0, 1})
        assert rig.marks.marks.get(0, {}) == left


def test_only_a_death_while_alone_condemns(make: Any) -> None:
    rig = make(marks={0: {0: "alone"}})
    rig.offer(record(0), record(1))
    rig.start()
    eventually(lambda: rig.flow.submitted == ["cr-0-1"])
    rig.flow.finish("cr-0-1")
    eventually(lambda: rig.source.committed.get(0) == 2)
    assert dict(rig.sink.sent[0].headers)["adscore_dlq_code"] == b"decode_crashed"
    assert rig.marks.marks[0] == {}


def test_what_is_held_is_marked_until_it_is_finished(make: Any) -> None:
    rig = make()
    rig.offer(record(0), record(1, value=b"nonsense"))
    rig.start()
    eventually(lambda: rig.marks.marks == {0: {0: "together"}})
    rig.flow.finish("cr-0-0")
    eventually(lambda: rig.source.committed.get(0) == 2)
    assert rig.marks.marks == {0: {}}
