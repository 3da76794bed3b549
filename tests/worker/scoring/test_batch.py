"""Batches close by size or by the oldest item's age, and keep order."""

import pytest

from worker.scoring.batch import Batcher


def test_empty_is_never_due() -> None:
    batcher: Batcher[int] = Batcher(4, 0.1)
    assert batcher.due_in(0.0) is None
    assert batcher.take(100.0) == []


def test_full_is_due_at_once_and_the_rest_waits() -> None:
    batcher: Batcher[int] = Batcher(2, 10.0)
    for item in (1, 2, 3):
        batcher.add(item, 0.0)
    assert batcher.due_in(0.0) == 0.0
    assert batcher.take(0.0) == [1, 2]
    assert batcher.take(0.0) == []
    assert len(batcher) == 1


@pytest.mark.parametrize(("now", "due", "batch"), [(5.0, 0.5, []), (5.4, 0.1, []), (5.5, 0.0, ["a", "b"])])
def test_the_oldest_decides(now: float, due: float, batch: list[str]) -> None:
    batcher: Batcher[str] = Batcher(8, 0.5)
    batcher.add("a", 5.0)
    batcher.add("b", 5.0 if now == 5.0 else 5.3)
    assert batcher.due_in(now) == pytest.approx(due)
    assert batcher.take(now) == batch


def test_a_smaller_size_holds_for_what_waits_already() -> None:
    batcher: Batcher[int] = Batcher(8, 10.0)
    for item in range(5):
        batcher.add(item, 0.0)
    assert batcher.take(0.0) == []
    batcher.max_size = 2
    assert [batcher.take(0.0) for _ in range(3)] == [[0, 1], [2, 3], []]


def test_no_delay_takes_what_there_is() -> None:
    batcher: Batcher[int] = Batcher(8, 0.0)
    batcher.add(1, 3.0)
    assert batcher.take(3.0) == [1]
