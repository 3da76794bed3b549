"""Too long is the time that one piece of work was seen running, and no other time."""

from __future__ import annotations

from worker.pipeline.watchdog import Watchdog


def looks(dog: Watchdog, *seen: tuple[int | None, float]) -> list[bool]:
    return [dog.sees(work, now) for work, now in seen]


def test_one_work_that_goes_on_is_too_long_at_its_limit() -> None:
    assert looks(Watchdog(3, 1), (1, 10), (1, 11), (1, 12), (1, 13)) == [False, False, False, True]


def test_every_new_work_begins_anew_and_idling_is_none() -> None:
    dog = Watchdog(3, 1)
    assert not any(looks(dog, (1, 0), (1, 1), (1, 2), (2, 3), (2, 4), (2, 5), (None, 6), (2, 7), (2, 8), (2, 9)))
    assert dog.sees(2, 10)


def test_nothing_to_do_is_never_too_long() -> None:
    assert not any(Watchdog(3, 1).sees(None, now) for now in range(1_000))


def test_a_process_that_was_stopped_has_not_worked_meanwhile() -> None:
    dog = Watchdog(5, 1)
    assert looks(dog, (1, 0), (1, 1), (1, 3_600)) == [False, False, False], "the hour counts for two seconds"
    assert looks(dog, (1, 3_601), (1, 3_602)) == [False, True]
