"""Two workers in one group: they share the partitions, and hand them over without losing or repeating anything."""

import signal

import pytest

from tests.faults.creatives import bare
from tests.faults.ledger import ledger
from tests.faults.process import wait_for
from tests.faults.wire import group_state, publish

PARTITIONS = 4
HELPING = {"ADSCORE_PIPELINE__MAX_INFLIGHT": "8", "ADSCORE_BATCH__MAX_SIZE": "2"}


@pytest.mark.slow
def test_a_worker_joins_and_another_leaves_while_records_flow(stack, make_topics, start_worker) -> None:
    topics, servers = make_topics(PARTITIONS), stack.bootstrap_servers
    sent = []

    def offer(count: int) -> None:
        numbers = range(len(sent), len(sent) + count)
        sent.extend(publish(servers, topics.input, [bare(f"cr-{number}", number) for number in numbers]))

    offer(200)
    first = start_worker(topics, **HELPING).wait_ready()
    first.wait_processed(20)
    second = start_worker(topics, **HELPING)
    for _ in range(8):
        offer(30)
    wait_for(lambda: _shared(servers, topics.group_id), "the two never shared the partitions", every=0.5)
    offer(100)
    second.wait_processed(20)
    assert first.metric("adscore_rebalances_total", kind="revoked") > 0, "nothing was handed over"
    first.signal(signal.SIGTERM)
    assert first.wait() == 0, first.told
    offer(100)
    wait_for(lambda: sum(ledger(servers, topics, sent).offsets.values()) == len(sent), "not all was committed", every=1)
    second.signal(signal.SIGTERM)
    assert second.wait() == 0, second.told
    ledger(servers, topics, sent).check()


def _shared(servers: str, group: str) -> bool:
    """Whether two members hold half of the partitions each, by cooperative-sticky."""
    found = group_state(servers, group)
    if found["group_state"] != "Stable" or len(found["members"]) != 2:
        return False
    assert found["protocol_data"] == "cooperative-sticky"
    return [_count(member) for member in found["members"]] == [PARTITIONS // 2] * 2


def _count(member) -> int:
    assigned = member["member_assignment"]["assigned_partitions"]
    return sum(len(topic["partitions"]) for topic in assigned)
