"""An engine that fails: one head, one record, its memory, its context, its answer. What each costs, and whom."""

from __future__ import annotations

import time

import pytest

from tests.faults import planted_engine as planted
from tests.faults.creatives import bare, with_image
from tests.faults.ledger import ledger
from tests.faults.wire import committed, publish, read_all

MODULE = "tests.faults.planted_engine"


def gathered(**settings: str) -> dict[str, str]:
    """Everything that is published arrives in one batch."""
    return {"module": MODULE, "ADSCORE_BATCH__MAX_DELAY_MS": "1000", "ADSCORE_BATCH__MAX_SIZE": "16", **settings}


@pytest.mark.slow
def test_failures_cost_their_record_and_head_alone_and_memory_makes_batches_smaller(
    stack, topics, start_worker
) -> None:
    servers = stack.bootstrap_servers
    odd = {
        "fails": planted.FAILS,
        "one-head": planted.FAILS_ONE_HEAD,
        "nan": planted.NOT_A_NUMBER,
        "inf": planted.INFINITE,
    }
    records = [bare(f"good-{number}", number) for number in range(10)]
    records += [with_image(name, planted.url(colour)) for name, colour in odd.items()]
    sent = publish(servers, topics.input, records, partition=0)
    worker = start_worker(topics, **gathered(**{planted.FITS: "4"}))
    worker.wait_processed(len(records))
    assert 1 <= worker.metric("adscore_batch_limit") < 16, "half of what didn't fit, for a while"
    worker.signal(15)
    assert worker.wait() == 0, worker.told
    account = ledger(servers, topics, sent)
    account.check()
    found = {output.event["creative_id"]: output.event for output in account.outputs}
    assert found.keys() == {f"good-{number}" for number in range(10)} | {"one-head", "nan", "inf"}
    assert all(found[f"good-{number}"]["status"] == "scored" for number in range(10))
    for name in ("one-head", "nan", "inf"):
        event = found[name]
        assert (event["status"], event["scores"]["ctr"]) == ("partial", None)
        assert [(error["head"], error["code"]) for error in event["errors"]] == [("ctr", "engine_failed")]
        assert "ads_ctr" not in event["targeting"]
        assert "ctr" not in event["ortb"]["bid"]["ext"]["adscore"]
        assert event["scores"]["attractiveness"]["value"] is not None
    (dead,) = account.dead
    told = [dead.header(f"adscore_dlq_{name}") for name in ("code", "stage", "attempts", "retryable")]
    assert told == ["engine_failed", "engine", "3", "true"]


@pytest.mark.slow
@pytest.mark.parametrize("delivery", ["exactly-once"])
def test_a_poisoned_context_ends_the_worker_and_the_record_is_condemned_only_after_a_death_alone(
    stack, topics, start_worker, delivery
) -> None:
    servers = stack.bootstrap_servers
    settings = gathered(ADSCORE_KAFKA__DELIVERY=delivery)
    before = publish(servers, topics.input, [bare("before", 1)], partition=0)
    first = start_worker(topics, **settings)
    first.wait_processed(1)
    records = [bare(f"good-{number}", number) for number in range(4)]
    records.insert(2, with_image("poison", planted.url(planted.POISONS)))
    sent = publish(servers, topics.input, records, partition=0)
    _ends_lost(first, "illegal memory access")
    assert [found.event["creative_id"] for found in read_all(servers, topics.output)] == ["before"]
    offset = committed(servers, topics.group_id, topics.input)[0]
    assert before[0][1] < offset <= sent[0][1], "nothing of the batch is committed"

    second = start_worker(topics, **settings)
    _ends_lost(second, "illegal memory access")
    assert not read_all(servers, topics.dlq), "of five that were held at the first death any may be innocent"

    third = start_worker(topics, "--until-idle", "1", **settings)
    assert third.wait() == 0, third.told
    account = ledger(servers, topics, before + sent)
    account.check()
    (dead,) = account.dead
    assert (dead.key, dead.header("adscore_dlq_code")) == (b"poison", "decode_crashed")


@pytest.mark.slow
def test_an_engine_that_hangs_ends_the_worker_within_its_time_and_nothing_is_committed(
    stack, topics, start_worker
) -> None:
    servers = stack.bootstrap_servers
    records = [bare("good", 1), with_image("hangs", planted.url(planted.HANGS))]
    settings = gathered(ADSCORE_PIPELINE__ENGINE_TIMEOUT_SECONDS="2")
    worker = start_worker(topics, **settings).wait_ready()
    sent = publish(servers, topics.input, records, partition=0)
    began = time.monotonic()
    _ends_lost(worker, "ADSCORE_PIPELINE__ENGINE_TIMEOUT_SECONDS")
    assert time.monotonic() - began < 15
    assert not read_all(servers, topics.output)
    assert committed(servers, topics.group_id, topics.input).get(0, 0) <= sent[0][1]


def _ends_lost(worker, why: str) -> None:
    """Exit status 1, and a log of JSON lines whose last error says why."""
    assert worker.wait() == 1, worker.told
    errors = [line["event"] for line in worker.log if line["level"] in ("error", "critical")]
    assert any("the engine is lost" in text and why in text for text in errors), errors
