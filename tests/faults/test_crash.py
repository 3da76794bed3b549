"""A worker that is killed: nothing is lost, and what is repeated stays within the promise."""

import random
import signal
import time

import pytest

from tests.faults.creatives import bare, with_image
from tests.faults.gate import Gate
from tests.faults.ledger import ledger
from tests.faults.process import wait_for
from tests.faults.wire import committed, publish, read_all

KILLS = 3
COMMIT_EVERY_MS = 1_000
SLACK_MS = 1_000
"""For two loaded cores, on which a commit that is due may wait for its turn."""


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing(stack, topics, start_worker) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    servers = stack.bootstrap_servers
    records = [bare(f"cr-{number}", number) for number in range(400)]
    records += [with_image(f"bad-{number}", "data:image/png;base64,AAAA") for number in range(20)]
    dice.shuffle(records)
    sent = publish(servers, topics.input, records)
    for _ in range(KILLS):
        worker = start_worker(topics, ADSCORE_PIPELINE__MAX_INFLIGHT="16")
        worker.wait_processed(dice.randint(1, 100))
        time.sleep(dice.random() * 0.2)
        worker.signal(signal.SIGKILL)
        worker.wait()
        ledger(servers, topics, sent).check(repeats=True, whole=False)
    last = start_worker(topics, "--until-idle", "1")
    assert last.wait() == 0, last.told
    after = ledger(servers, topics, sent)
    after.check(repeats=True)
    assert sum(after.offsets.values()) == len(sent), f"seed {seed}: committed {after.offsets} of {len(sent)}"


def test_a_kill_repeats_only_the_last_second_and_what_lies_behind_the_oldest_unfinished(
    stack, make_topics, start_worker
) -> None:
    topics, servers = make_topics(2), stack.bootstrap_servers
    with Gate() as gate:
        early = [publish(servers, topics.input, [bare(f"a-{n}", n)], partition=n % 2)[0] for n in range(10)]
        held = publish(servers, topics.input, [with_image("held", gate.url(500))], partition=0)
        worker = start_worker(topics, **gate.settings, ADSCORE_FETCH__TIMEOUT_SECONDS="60")
        worker.wait_processed(len(early))
        wait_for(lambda: gate.asked, "the held image was never asked for")
        late = [publish(servers, topics.input, [bare(f"b-{n}", 50 + n)], partition=n % 2)[0] for n in range(10)]
        worker.wait_processed(len(early) + len(late))
        done = {0: held[0][1], 1: max(offset for partition, offset in late if partition == 1) + 1}
        wait_for(lambda: committed(servers, topics.group_id, topics.input) == done, f"never committed {done}")
        time.sleep(COMMIT_EVERY_MS / 1_000)
        assert committed(servers, topics.group_id, topics.input) == done, "an offset went past the unfinished record"
        worker.signal(signal.SIGKILL)
        worker.wait()
        gate.open()
        last = start_worker(topics, "--until-idle", "1", **gate.settings)
        assert last.wait() == 0, last.told
    after = ledger(servers, topics, early + held + late)
    after.check(repeats=True)
    behind = {place for place in late if place[0] == 0}
    assert set(after.repeated) == behind, "behind the held record all are done again, and nothing else is"


@pytest.mark.slow
def test_a_kill_under_load_repeats_nothing_that_was_published_long_before(stack, topics, start_worker) -> None:
    servers = stack.bootstrap_servers
    sent = publish(servers, topics.input, [bare(f"cr-{number}", number) for number in range(1_500)])
    worker = start_worker(topics, ADSCORE_BATCH__MAX_SIZE="4", ADSCORE_PIPELINE__MAX_INFLIGHT="8")
    worker.wait_processed(1)
    time.sleep(3.0)
    killed_ms = time.time_ns() // 1_000_000
    worker.signal(signal.SIGKILL)
    worker.wait()
    first = {found.source: found.timestamp_ms for found in reversed(read_all(servers, topics.output))}
    last = start_worker(topics, "--until-idle", "1")
    assert last.wait() == 0, last.told
    after = ledger(servers, topics, sent)
    after.check(repeats=True)
    # The oldest record of each partition that was not published a second before the kill: what lies behind it may
    # come again, whenever it was published.
    recent = killed_ms - COMMIT_EVERY_MS - SLACK_MS
    oldest: dict[int, int] = {}
    for partition, offset in sent:
        if first.get((partition, offset), killed_ms) >= recent:
            oldest[partition] = min(offset, oldest.get(partition, offset))
    beyond = [place for place in after.repeated if place[1] < oldest[place[0]]]
    assert not beyond, f"published long before the kill, and again: {beyond}"
