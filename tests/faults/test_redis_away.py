"""Redis is gone, comes back, hangs: every event comes out whole, and the cache says what happened."""

import time

import pytest

from tests.faults.creatives import bare
from tests.faults.ledger import ledger
from tests.faults.wire import publish

EACH = 60
FETCH_THREADS = 16
HEADS = 3
BREAKER_SECONDS = 0.5


@pytest.mark.slow
def test_no_event_suffers_while_redis_is_away(stack, topics, start_worker) -> None:
    servers = stack.bootstrap_servers
    settings = {"ADSCORE_REDIS__BREAKER_SECONDS": str(BREAKER_SECONDS), "ADSCORE_FETCH__WORKERS": str(FETCH_THREADS)}
    worker = start_worker(topics, **settings).wait_ready()
    sent, errors = [], []

    def offer(creative: str) -> None:
        sent.extend(publish(servers, topics.input, [bare(f"{creative}-{n}", len(sent) + n) for n in range(EACH)]))
        worker.wait_processed(len(sent), outcome="scored")
        errors.append(worker.metric("adscore_cache_requests_total", result="error"))

    offer("with")
    assert errors == [0]
    stack.stop_redis()
    offer("gone")
    stack.start_redis()
    time.sleep(2 * BREAKER_SECONDS)
    offer("back")
    stack.pause_redis()
    offer("hung")
    hung = errors[-1] - errors[-2]
    stack.resume_redis()
    time.sleep(2 * BREAKER_SECONDS)
    offer("again")
    assert not worker.ended
    after = ledger(servers, topics, sent)
    after.check()
    caches = {found.key.decode(): set(found.event["provenance"]["cache"].values()) for found in after.outputs}
    gone = [caches[f"gone-{n}"] for n in range(EACH)]
    assert {"off"} in gone, "the breaker never opened"
    assert all(cache <= {"off", "miss"} for cache in caches.values()), "a new image can't be a hit"
    assert any(caches[f"{name}-{n}"] == {"miss"} for name in ("back", "again") for n in range(EACH)), (
        "it never came back"
    )
    # Who asked before the breaker opened pays the time-out; then one in each period does, beside the deliverer.
    allowed = HEADS * (FETCH_THREADS + EACH // 2)
    assert 0 < hung < allowed, f"{hung} look-ups waited for a hung server, of {HEADS * EACH}"
    totals = [
        found.event["provenance"]["latency_ms"]["total"] for found in after.outputs if found.key.startswith(b"hung")
    ]
    assert max(totals) < 5_000, f"a creative took {max(totals)} ms because Redis hung"
