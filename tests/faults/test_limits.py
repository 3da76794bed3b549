"""How much a worker takes: so many records, until idle, in flight, dead letters in a row. And the dry run."""

import signal
import time

import orjson
import pytest
from redis import Redis

from tests.faults.creatives import LASTMOD, Outgoing, bare, with_image, withdrawal
from tests.faults.gate import Gate
from tests.faults.ledger import ledger
from tests.faults.process import wait_for
from tests.faults.wire import committed, group_state, publish, read_all

BAD = "data:image/png;base64,AAAA"


@pytest.mark.slow
def test_so_many_messages_then_a_dry_run_of_the_rest(stack, topics, start_worker) -> None:
    servers = stack.bootstrap_servers
    records = [bare(f"cr-{number}", number) for number in range(12)]
    records += [with_image("bad", BAD), withdrawal("gone"), Outgoing(b"odd", b"{")]
    records += [bare("twice", 1, lastmod=LASTMOD + 1), bare("twice", 1, lastmod=LASTMOD)]
    sent = publish(servers, topics.input, records, partition=0)
    worker = start_worker(topics, "--max-messages", "7")
    assert worker.wait() == 0, worker.told
    assert len(read_all(servers, topics.output)) == 7
    before = committed(servers, topics.group_id, topics.input)
    assert before[0] == 7
    _dry_run(stack, topics, start_worker, sent)
    assert committed(servers, topics.group_id, topics.input) == before
    rest = start_worker(topics, "--until-idle", "1")
    assert rest.wait() == 0, rest.told
    ledger(servers, topics, sent).check(superseded=sent[-1:])


def _dry_run(stack, topics, start_worker, sent) -> None:
    """From the committed offset on: every line by the contract, and no trace of it anywhere."""
    servers = stack.bootstrap_servers
    redis = Redis.from_url(topics.redis_url)
    keys = set(redis.keys())
    dry = start_worker(topics, "--dry-run", "--until-idle", "2")
    members = []
    while not dry.ended:
        members += group_state(servers, topics.group_id)["members"]
        time.sleep(0.2)
    assert dry.wait() == 0, dry.told
    assert not members, "the dry run joined the group"
    lines = [orjson.loads(line) for line in dry.running.stdout.splitlines()]
    assert [line["creative_id"] for line in lines[:5]] == [f"cr-{number}" for number in range(7, 12)]
    assert all(line["status"] == "scored" and line["scores"] for line in lines[:5])
    assert lines[2]["provenance"]["offset"] == sent[9][1]
    bad, gone, odd, twice = lines[5:]
    assert (bad["input"], bad["creative_id"], bad["status"]) == (f"{topics.input}:0:{sent[12][1]}", "bad", "failed")
    assert bad["errors"][0]["code"] == "unsupported_format"
    assert gone == {"creative_id": "gone", "status": "withdrawn"}
    assert odd["errors"][0]["code"] == "bad_event"
    assert twice["lastmod"] == LASTMOD + 1, "the older revision is superseded, in a dry run too"
    assert set(redis.keys()) == keys
    redis.close()
    assert len(read_all(servers, topics.output)) == 7
    assert not read_all(servers, topics.dlq)


def test_too_many_dead_letters_in_a_row_end_it_before_the_one_is_committed(stack, topics, start_worker) -> None:
    servers = stack.bootstrap_servers
    records = [bare("good", 1), *[with_image(f"bad-{number}", BAD) for number in range(6)]]
    sent = publish(servers, topics.input, records, partition=0)
    worker = start_worker(topics, ADSCORE_DLQ__MAX_CONSECUTIVE="3", ADSCORE_PIPELINE__MAX_INFLIGHT="1")
    assert worker.wait() == 1, worker.told
    assert "ADSCORE_DLQ__MAX_CONSECUTIVE=3" in worker.told
    after = ledger(servers, topics, sent)
    after.check(whole=False)
    assert after.offsets.get(0, 0) <= sent[4][1], f"committed {after.offsets}: the fourth dead letter in a row is there"
    assert {found.source for found in after.dead} <= set(sent[1:4])


@pytest.mark.slow
def test_in_flight_work_and_memory_stay_bounded_however_much_waits(stack, topics, start_worker) -> None:
    servers, limit = stack.bootstrap_servers, 24
    padding = {"ext": {"padding": "x" * 20_000}}
    with Gate() as gate:
        records = [with_image(f"cr-{n}", gate.url(n % 50), **padding) for n in range(1_500)]
        sent = publish(servers, topics.input, records)
        limits = {"ADSCORE_PIPELINE__MAX_INFLIGHT": str(limit), "ADSCORE_FETCH__TIMEOUT_SECONDS": "60"}
        worker = start_worker(topics, **gate.settings, **limits).wait_ready()
        wait_for(lambda: worker.metric("adscore_inflight_events") == limit, "it never took all it may")
        start = _resident(worker.running.pid)
        time.sleep(1)
        assert worker.metric("adscore_inflight_events") == limit
        assert worker.metric("adscore_events_consumed_total") == limit
        gate.open()
        most = 0.0
        while worker.metric("adscore_events_processed_total") < len(sent):
            assert not worker.ended, worker.told
            most = max(most, worker.metric("adscore_inflight_events"))
            time.sleep(0.05)
        assert most <= limit
        grown = _resident(worker.running.pid) - start
        assert grown < 80e6, f"grew by {grown / 1e6:.0f} MB while 30 MB went through"
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0, worker.told
    ledger(servers, topics, sent).check()


def _resident(pid: int) -> float:
    """Bytes of memory that the process holds."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        (line,) = [line for line in file if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024
