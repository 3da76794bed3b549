"""The broker crashes, comes back, hangs, goes on: the worker waits, says so, and loses nothing."""

import signal
import threading
import time

import pytest

from tests.faults.creatives import bare
from tests.faults.ledger import ledger
from tests.faults.process import wait_for
from tests.faults.wire import publish


class Watch(threading.Thread):
    """Asks /livez all the time; keeps every answer that was not 200."""

    def __init__(self, worker) -> None:
        super().__init__(daemon=True)
        self._worker, self.over = worker, threading.Event()
        self.asked, self.bad = 0, []

    def run(self) -> None:
        while not self.over.wait(0.1):
            status, body = self._worker.get("/livez")
            self.asked += 1
            if status != 200:
                self.bad.append((status, body))


@pytest.mark.slow
def test_the_worker_waits_for_a_broker_that_crashes_and_one_that_hangs(stack, topics, start_worker) -> None:
    servers = stack.bootstrap_servers
    sent = publish(servers, topics.input, [bare(f"a-{number}", number) for number in range(200)])
    worker = start_worker(topics, ADSCORE_PIPELINE__MAX_INFLIGHT="16").wait_ready()
    watch = Watch(worker)
    watch.start()
    worker.wait_processed(30)
    stack.kill_broker()
    wait_for(lambda: worker.get("/readyz")[0] == 503, "/readyz never said that the broker is away")
    assert worker.metric("adscore_inflight_events") <= 16
    stack.restart_broker()
    worker.wait_processed(len(sent))
    wait_for(lambda: worker.get("/readyz")[0] == 200, "/readyz never came back")
    stack.pause_broker()
    wait_for(lambda: worker.get("/readyz")[0] == 503, "/readyz never said that the broker hangs")
    time.sleep(1)
    stack.resume_broker()
    sent += publish(servers, topics.input, [bare(f"b-{number}", 300 + number) for number in range(100)])
    worker.wait_processed(len(sent))
    wait_for(lambda: worker.get("/readyz")[0] == 200, "/readyz never came back")
    watch.over.set()
    watch.join()
    assert watch.asked > 20
    assert not watch.bad, f"/livez answered {watch.bad}"
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.told
    after = ledger(servers, topics, sent)
    after.check(repeats=True)
    assert sum(after.offsets.values()) == len(sent)


def test_a_stop_without_a_broker_ends_with_3_in_time(stack, topics, start_worker) -> None:
    worker = start_worker(topics, ADSCORE_DRAIN__TIMEOUT_SECONDS="4").wait_ready()
    publish(stack.bootstrap_servers, topics.input, [bare("a", 1)])
    worker.wait_processed(1)
    stack.pause_broker()
    told = time.monotonic()
    worker.signal(signal.SIGTERM)
    status = worker.wait()
    took = time.monotonic() - told
    assert took < 4 + 1.5, f"took {took:.1f} s"
    assert status in (0, 3), worker.told
