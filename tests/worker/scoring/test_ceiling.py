"""Batches after the engine ran out of memory: smaller at once, larger again only after a while."""

from __future__ import annotations

import pytest

from worker.scoring.ceiling import BatchCeiling


def test_batches_stay_smaller_for_a_while_and_grow_back_step_by_step() -> None:
    ceiling = BatchCeiling(16, hold_seconds=60)
    assert ceiling.size(0) == 16
    assert ceiling.exhausted(16, 100) == 8
    assert ceiling.exhausted(8, 100) == 4
    assert [ceiling.size(now) for now in (100, 159.9, 160, 219.9, 220, 1_000)] == [4, 4, 8, 8, 16, 16]


@pytest.mark.parametrize(("rows", "size"), [(16, 8), (5, 2), (3, 1), (2, 1), (1, 1)])
def test_half_of_what_did_not_fit_and_never_none(rows: int, size: int) -> None:
    assert BatchCeiling(16).exhausted(rows, 0) == size


def test_a_smaller_failure_never_raises_it_and_a_new_one_begins_the_wait_anew() -> None:
    ceiling = BatchCeiling(16, hold_seconds=10)
    ceiling.exhausted(4, 0)
    assert ceiling.exhausted(16, 9) == 2
    assert [ceiling.size(now) for now in (18.9, 19)] == [2, 4]


def test_after_a_long_sleep_it_is_the_full_size_at_once() -> None:
    ceiling = BatchCeiling(16, hold_seconds=10)
    ceiling.exhausted(2, 0)
    assert ceiling.size(1e6) == 16
