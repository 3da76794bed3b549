"""The memory of revisions over a stand-in for Redis: what supersedes what, also after a restart or a lost step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from worker.delivery.revisions import Revisions
from worker.types import Origin, Place


class Store:
    """As much of Redis as the memory uses."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def call(self, ask: Callable[[Any], Any]) -> Any:
        return ask(self)

    def get(self, key: str) -> bytes | None:
        return self.held.get(key)

    def set(self, key: str, value: bytes, ex: int) -> None:
        assert ex == 60
        self.held[key] = value

    def pipeline(self, transaction: bool) -> Store:
        return self

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self) -> None:
        pass


def at(offset: int, partition: int = 0) -> Origin:
    return Origin("in", partition, offset, 0)


def copy_of(offset: int, partition: int = 0) -> Place:
    return Place("in", partition, offset)


def memory(store: Store | None, max_creatives: int = 10) -> Revisions:
    return Revisions(store, output_topic="out", keep_seconds=60, max_creatives=max_creatives)  # type: ignore[arg-type]


@pytest.fixture(params=["itself", "after a restart"])
def remembered(request: pytest.FixtureRequest) -> Callable[[Store, Revisions], Revisions]:
    """The same memory, or that of a worker that comes after."""
    return lambda store, before: before if request.param == "itself" else memory(store)


def test_older_is_superseded_and_equal_is_not(remembered) -> None:
    before = memory(store := Store())
    before.published("a", 5, at(1))
    now = remembered(store, before)
    assert [now.is_superseded("a", lastmod, at(2)) for lastmod in (4, 5, 6)] == [True, False, False]


def test_a_withdrawn_creative_comes_back_with_any_revision(remembered) -> None:
    before = memory(store := Store())
    before.published("a", 5, at(1))
    before.published("a", None, at(2))
    assert not remembered(store, before).is_superseded("a", 1, at(3))


def test_a_repeat_counts_if_nothing_came_after_what_it_repeats(remembered) -> None:
    before = memory(store := Store())
    before.published("a", 5, at(1))
    assert not remembered(store, before).is_superseded("a", 5, at(9), copy_of(1))
    before.published("a", 5, at(9))
    now = remembered(store, before)
    assert now.is_superseded("a", 5, at(10), copy_of(1)), "the first repeat was published already"
    assert not now.is_superseded("a", 5, at(10), copy_of(9))


def test_a_repeat_of_what_was_withdrawn_or_sent_again_is_superseded(remembered) -> None:
    before = memory(store := Store())
    before.published("withdrawn", None, at(2))
    before.published("equal", 5, at(2))
    now = remembered(store, before)
    assert now.is_superseded("withdrawn", 5, at(3), copy_of(1))
    assert now.is_superseded("equal", 5, at(3), copy_of(1)), "an equal revision may be another image"
    assert not now.is_superseded("never seen", 5, at(3), copy_of(1))


def test_places_on_other_partitions_have_no_order(remembered) -> None:
    before = memory(store := Store())
    before.published("a", 5, at(7, partition=1))
    now = remembered(store, before)
    assert not now.is_superseded("a", 5, at(3), copy_of(1))
    assert now.is_superseded("a", 4, at(3), copy_of(1))


@pytest.mark.parametrize(
    "entry",
    [b"{", b"[]", b'{"v": 2, "lastmod": 9}', b'{"v": 1, "lastmod": "9"}', b'{"v": 1, "lastmod": -1}', b'{"v": 1}'],
)
def test_an_unreadable_entry_counts_as_none(entry: bytes) -> None:
    store = Store()
    store.held["adscore:rev:out:a"] = entry
    assert not memory(store).is_superseded("a", 1, at(1), copy_of(0))


def test_what_a_lost_transaction_left_in_redis_counts_as_its_predecessor() -> None:
    before = memory(store := Store())
    before.published("a", 5, at(1))
    before.stage("a", 9, at(2))
    before.stage("b", None, at(3))
    before.store_staged()
    now = memory(store)
    assert not now.is_superseded("a", 6, at(2)), "offset 2 is read again, so 9 was never published"
    assert now.is_superseded("a", 4, at(2))
    assert not now.is_superseded("b", 1, at(3), copy_of(0)), "nor was the withdrawal"
    after = memory(store)
    assert after.is_superseded("a", 8, at(3)), "an offset behind it shows that it was"
    assert after.is_superseded("b", 1, at(4), copy_of(0))


def test_what_no_commit_covers_counts_as_its_predecessor_for_later_records_too() -> None:
    before = memory(store := Store())
    before.stage("a", 10, at(5))
    before.store_staged()
    before.committed()
    before.stage("a", 100, at(7))
    before.store_staged()
    now = memory(store)
    # Read again from 7; the image of 7 is gone meanwhile, so that nobody asks for it before 8.
    assert not now.is_superseded("a", 50, at(8), began=7)
    assert now.is_superseded("a", 9, at(8), began=7)
    before.rolled_back()
    assert not before.is_superseded("a", 50, at(8), began=7), "nor in the process that wrote it"
    assert before.is_superseded("a", 9, at(8), began=7)


def test_what_this_worker_committed_since_it_began_counts_also_when_it_forgot_it() -> None:
    now = memory(Store(), max_creatives=1)
    now.stage("a", 5, at(7), began=7)
    now.store_staged()
    now.committed()
    now.stage("b", 5, at(8), began=7)
    now.store_staged()
    now.committed()
    assert now.is_superseded("a", 4, at(9), began=7)


def test_a_transaction_that_came_to_nothing_is_taken_back() -> None:
    now = memory(None)
    now.stage("a", 5, at(1))
    now.committed()
    now.stage("a", 7, at(2))
    now.stage("a", None, at(3))
    now.stage("new", 3, at(4))
    assert not now.is_superseded("a", 1, at(5)), "it is withdrawn in this very step"
    now.rolled_back()
    assert now.is_superseded("a", 4, at(2))
    assert not now.is_superseded("a", 5, at(2), copy_of(1)), "and the place is that of the last commit"
    assert not now.is_superseded("new", 1, at(4))


def test_the_process_forgets_partitions_that_go_and_the_oldest_creatives() -> None:
    now = memory(None, max_creatives=2)
    now.published("a", 5, at(1))
    now.published("b", 5, at(1, partition=1))
    now.disowned({1})
    assert [now.is_superseded(name, 1, at(2)) for name in "ab"] == [True, False]
    now.published("c", 5, at(3))
    now.published("d", 5, at(4))
    assert [now.is_superseded(name, 1, at(5)) for name in "acd"] == [False, True, True]


def test_what_redis_told_goes_with_the_partition_that_asked() -> None:
    before = memory(store := Store())
    before.published("a", 5, at(1, partition=7))
    now = memory(store)
    assert now.is_superseded("a", 4, at(2))
    store.held.clear()
    now.disowned({0})
    assert not now.is_superseded("a", 4, at(2))


@pytest.mark.parametrize("was_committed", [True, False])
def test_a_step_whose_answer_was_lost_is_told_by_the_next_record(was_committed: bool) -> None:
    revisions = Revisions(None, output_topic="out", keep_seconds=60, max_creatives=10)
    revisions.stage("cr", 5, Origin("in", 0, 10, 0))
    revisions.committed()
    revisions.stage("cr", 9, Origin("in", 0, 20, 0))
    revisions.rolled_back()
    # Offset 20 is read again if its commit never was; else the next record is a later one.
    following = Origin("in", 0, 21 if was_committed else 20, 0)
    assert revisions.is_superseded("cr", 7, following) is was_committed


def test_what_was_staged_goes_with_the_partition() -> None:
    revisions = Revisions(None, output_topic="out", keep_seconds=60, max_creatives=10)
    revisions.stage("cr", 5, Origin("in", 0, 10, 0))
    revisions.disowned({0})
    assert not revisions.is_superseded("cr", 1, Origin("in", 0, 10, 0))
