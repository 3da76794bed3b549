"""Which creatives `rescore` chooses, and in which order it reads them."""

from __future__ import annotations

import random

from worker.commands.newest import MAX_PARTITIONS, Newest, Seen, identity, packed


def seen(name: str, place: tuple[int, int] | None) -> Seen:
    return Seen(identity(name.encode()), None if place is None else packed(*place))


def offsets(newest: Newest, partition: int) -> list[int]:
    return [chosen.offset for chosen in newest.within(partition)]


def test_the_last_event_of_a_creative_counts() -> None:
    newest = Newest([[seen("a", (0, 1)), seen("b", (0, 2)), seen("a", (0, 5)), seen("b", None), seen("c", (3, 0))]])
    assert len(newest) == 2
    assert newest.partitions() == [0, 3]
    assert (offsets(newest, 0), offsets(newest, 1), offsets(newest, 3)) == ([5], [], [0])


def test_it_is_as_a_plain_dictionary_would_be() -> None:
    chance = random.Random(7)
    wanted: dict[str, tuple[int, int]] = {}
    partitions = []
    for number in range(4):
        told = []
        for _ in range(2_000):
            name = f"{number}-{chance.randrange(700)}"
            place = None if chance.random() < 0.3 else (chance.randrange(5), chance.randrange(10**6))
            wanted.pop(name, None)
            if place is not None:
                wanted[name] = place
            told.append(seen(name, place))
        partitions.append(told)
    newest = Newest(partitions)
    for partition in range(5):
        expected = sorted(offset for place, offset in wanted.values() if place == partition)
        assert offsets(newest, partition) == expected
    gone = chance.sample(sorted(wanted), 500)
    for name in [*gone, "never seen"]:
        newest.forget(identity(name.encode()))
    left = sum(not newest.is_gone(chosen) for partition in newest.partitions() for chosen in newest.within(partition))
    assert left == len(wanted) - 500


def test_a_chosen_row_knows_its_creative() -> None:
    newest = Newest([[seen("a", (0, 1)), seen("ü", (0, 2))]])
    first, second = newest.within(0)
    assert (newest.is_of(first, "a"), newest.is_of(first, "ü"), newest.is_of(second, "ü")) == (True, False, True)


def test_places_at_the_edges() -> None:
    last = MAX_PARTITIONS - 1
    newest = Newest([[seen("a", (last, (1 << 48) - 1)), seen("b", (last, 0)), seen("c", (last - 1, (1 << 48) - 1))]])
    assert offsets(newest, last) == [0, (1 << 48) - 1]
    assert packed(MAX_PARTITIONS, 0) is None
    assert packed(0, 1 << 48) is None
    assert packed(-1, 0) is None
    assert len(Newest([])) == 0
    assert Newest([]).partitions() == []
