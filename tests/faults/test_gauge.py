"""What a soak measures, and when it calls that growth."""

import os
import threading

import pytest

from tests.faults.gauge import LEAST, family, grown, growth, held

FLAT = {"memory_mib": 200.0, "descriptors": 50.0, "threads": 30.0, "queued": 64.0}


def test_what_stays_is_flat() -> None:
    noisy = [{name: value * (1 + 0.02 * (number % 2)) for name, value in FLAT.items()} for number in range(30)]
    assert grown(noisy) == {}


@pytest.mark.parametrize("name", FLAT)
def test_each_figure_that_grows_is_told(name: str) -> None:
    samples = [FLAT | {name: FLAT[name] * (1 + number / 100)} for number in range(30)]
    assert grown(samples).keys() == {name}
    first, last = growth(samples)[name]
    assert last / first == pytest.approx(1.2, abs=0.02), "the median of the last third over that of the first"


@pytest.mark.parametrize("name", FLAT)
def test_a_little_more_of_little_is_no_growth(name: str) -> None:
    samples = [FLAT | {name: 1.0 + LEAST[name] * (number >= 15)} for number in range(30)]
    assert grown(samples) == {}


def test_this_process_and_its_threads_are_seen() -> None:
    before = held(os.getpid(), "")
    waiting = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(5)]
    opened = [open(os.devnull) for _ in range(7)]  # noqa: SIM115
    for thread in waiting:
        thread.start()
    now = held(os.getpid(), 'adscore_inflight_events 3\nadscore_queue_depth{queue="batch"} 4\n')
    assert now["threads"] - before["threads"] == 5
    assert now["descriptors"] - before["descriptors"] == 7
    assert now["queued"] == 7
    assert now["memory_mib"] > 10
    assert family(os.getpid())[0] == os.getpid()
    for handle in opened:
        handle.close()
