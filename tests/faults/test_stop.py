"""Signals: a stop in order repeats nothing and keeps its time, a second signal ends at once."""

import signal
import time
from pathlib import Path

import pytest

from tests.faults.creatives import bare, with_image
from tests.faults.gate import Gate
from tests.faults.ledger import ledger
from tests.faults.process import wait_for
from tests.faults.wire import publish, read_all

DRAIN_SECONDS = 5.0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_stop_while_it_starts_is_clean_too(stack, topics, start_worker, number, status) -> None:
    """As a rolling update that is rolled back does; 143 would say that somebody killed it."""
    worker = start_worker(topics)
    wait_for(lambda: _catches(worker.running.pid, signal.SIGTERM), "it never took the signal for its own", every=0.005)
    assert not worker.running.stderr, "it had begun to log, so this shows nothing"
    worker.signal(number)
    assert worker.wait() == status, worker.told
    assert not read_all(stack.bootstrap_servers, topics.output)


def _catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal."""
    caught = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.slow
def test_stops_in_the_middle_repeat_nothing_and_the_next_worker_does_the_rest(stack, topics, start_worker) -> None:
    servers = stack.bootstrap_servers
    sent = publish(servers, topics.input, [bare(f"cr-{number}", number) for number in range(600)])
    for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        worker = start_worker(topics, ADSCORE_PIPELINE__MAX_INFLIGHT="8", ADSCORE_BATCH__MAX_SIZE="2")
        worker.wait_processed(60)
        worker.signal(number)
        assert worker.wait() == status, worker.told
        so_far = ledger(servers, topics, sent)
        so_far.check(whole=False)
        assert len(so_far.outputs) == sum(so_far.offsets.values()), "published and not committed, or the other way"
        assert len(so_far.outputs) < len(sent), "there was nothing left, so this showed nothing"
    last = start_worker(topics, "--until-idle", "1")
    assert last.wait() == 0, last.told
    ledger(servers, topics, sent).check()


def test_a_stop_keeps_its_time_although_a_record_never_finishes(stack, topics, start_worker) -> None:
    servers = stack.bootstrap_servers
    with Gate() as gate:
        sent = publish(servers, topics.input, [bare("done", 1), with_image("held", gate.url(1))], partition=0)
        settings = gate.settings | {"ADSCORE_FETCH__TIMEOUT_SECONDS": "60"}
        worker = start_worker(topics, **settings, ADSCORE_DRAIN__TIMEOUT_SECONDS=str(DRAIN_SECONDS))
        worker.wait_processed(1)
        wait_for(lambda: gate.asked, "the held image was never asked for")
        told = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.told
        assert time.monotonic() - told < DRAIN_SECONDS + 1, "the drain's time-out is the whole time to the end"
        gate.open()
        last = start_worker(topics, "--until-idle", "1", **gate.settings)
        assert last.wait() == 0, last.told
    ledger(servers, topics, sent).check()


def test_a_second_signal_ends_at_once(stack, topics, start_worker) -> None:
    with Gate() as gate:
        publish(stack.bootstrap_servers, topics.input, [with_image("held", gate.url(1))])
        worker = start_worker(topics, **gate.settings, ADSCORE_FETCH__TIMEOUT_SECONDS="60")
        wait_for(lambda: gate.asked, "the held image was never asked for")
        worker.signal(signal.SIGTERM)
        wait_for(lambda: any(line["event"] == "draining" for line in worker.log), "it never began to drain")
        assert not worker.ended
        told = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 130, worker.told
        assert time.monotonic() - told < 3
        assert not read_all(stack.bootstrap_servers, topics.output)
