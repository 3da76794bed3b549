"""A worker that is killed: nothing is lost, and what is repeated stays within the promise."""

import random
import signal
import time

from tests.faults.creatives import bare, with_image
from tests.faults.ledger import ledger
from tests.faults.wire import publish

KILLS = 3


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
