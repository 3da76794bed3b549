"""What the worker needs and doesn't find: it ends with 3 and says which verb or setting mends it."""

import time

import pytest
from kafka import KafkaAdminClient

from tests.faults.creatives import bare
from tests.faults.wire import publish
from tools.server import free_port


def _delete(servers: str, topic: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=servers)
    try:
        admin.delete_topics([topic])
    finally:
        admin.close()


@pytest.mark.parametrize("kind", ["input", "output", "dlq"])
def test_a_topic_that_is_missing_at_the_start(stack, topics, adscore, light, kind) -> None:
    missing = {f"ADSCORE_KAFKA__{kind.upper()}_TOPIC": "nobody.made.it"}
    done = adscore("worker", "--until-idle", "1", env=topics.env | dict(light) | missing)
    assert done.returncode == 3, done.stderr
    assert "nobody.made.it" in done.stderr
    assert "adscore topics create" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["output", "dlq", "input"])
def test_a_topic_that_is_deleted_while_it_runs(stack, topics, start_worker, kind) -> None:
    servers = stack.bootstrap_servers
    worker = start_worker(topics).wait_ready()
    publish(servers, topics.input, [bare("first", 1)])
    worker.wait_processed(1)
    topic = getattr(topics, kind)
    _delete(servers, topic)
    if kind != "input":
        records = [bare("second", 2)]
        if kind == "dlq":
            records = [bare("bad", 3, ad={"id": 7})]
        publish(servers, topics.input, records)
    assert worker.wait(120) == 3, worker.told
    assert topic in worker.told
    assert "adscore topics create" in worker.told


@pytest.mark.slow
def test_a_broker_that_is_not_there_ends_the_start_within_30_seconds(topics, adscore, light) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    env = topics.env | dict(light) | {"ADSCORE_KAFKA__BOOTSTRAP_SERVERS": nowhere}
    for arguments in (["worker"], ["worker", "--dry-run"]):
        began = time.monotonic()
        done = adscore(*arguments, env=env)
        took = time.monotonic() - began
        assert done.returncode == 3, done.stderr
        assert took < 30, f"took {took:.0f} s"
        assert nowhere in done.stderr
        assert "ADSCORE_KAFKA__BOOTSTRAP_SERVERS" in done.stderr
        assert "Traceback" not in done.stderr
