"""Offsets are committed contiguously, whatever order work finishes in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.delivery.offsets import PartitionOffsets


def tracker(*received: int) -> PartitionOffsets:
    offsets = PartitionOffsets()
    for offset in received:
        offsets.received(offset)
    return offsets


def test_nothing_received_nothing_to_commit() -> None:
    assert PartitionOffsets().committable() is None


@pytest.mark.parametrize(
    ("received", "finished", "expected"),
    [
        ([5], [], 5),
        ([5], [5], 6),
        ([5, 6, 7], [6, 7], 5),
        ([5, 6, 7], [5, 7], 6),
        ([5, 6, 7], [7, 6, 5], 8),
        # Gaps (transaction markers, compaction) are stepped over, never counted as unfinished.
        ([5, 9, 20], [5, 9], 20),
        ([5, 9, 20], [9, 5, 20], 21),
    ],
)
def test_commits_up_to_the_first_unfinished(received: list[int], finished: list[int], expected: int) -> None:
    offsets = tracker(*received)
    for offset in finished:
        offsets.finished(offset)
    assert offsets.committable() == expected


def test_a_commit_is_not_repeated() -> None:
    offsets = tracker(5, 6)
    offsets.finished(5)
    offsets.committed(6)
    assert offsets.committable() is None
    offsets.finished(6)
    assert offsets.committable() == 7


def test_a_position_past_the_last_record_counts_only_when_all_is_finished() -> None:
    offsets = tracker(5)
    offsets.advanced(9)
    assert offsets.committable() == 5
    offsets.finished(5)
    assert offsets.committable() == 9


def test_finishing_twice_or_what_was_never_received_is_an_error() -> None:
    offsets = tracker(5, 6)
    offsets.finished(5)
    for offset in (5, 4):
        with pytest.raises(ValueError, match="not unfinished"):
            offsets.finished(offset)


def test_going_back_is_an_error() -> None:
    with pytest.raises(ValueError, match="new tracker"):
        tracker(5).received(5)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=40), st.data())
def test_never_past_an_unfinished_record(gaps: list[int], data: st.DataObject) -> None:
    received = [sum(gaps[: index + 1]) for index in range(len(gaps))]
    offsets = tracker(*received)
    open_ = list(received)
    while open_:
        done = data.draw(st.sampled_from(open_))
        open_.remove(done)
        offsets.finished(done)
        target = offsets.committable()
        assert target == (open_[0] if open_ else received[-1] + 1)
        assert offsets.unfinished == len(open_)
