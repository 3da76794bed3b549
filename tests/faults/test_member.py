"""A member of a group on a real broker: what kafka-python sets aside or forgets comes back."""

from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.faults.creatives import bare
from tests.faults.process import wait_for
from tests.faults.wire import publish
from worker.commands import clients
from worker.intake.source import Ownership, Source
from worker.settings import load

EACH = 20


@pytest.fixture
def consumer(stack, make_topics) -> Iterator[tuple[KafkaConsumer, str]]:
    topics = make_topics(2)
    made = clients.consumer(load(None, topics.env).settings)
    yield made, topics.input
    made.close(autocommit=False, timeout_ms=5_000)


def member(kafka: KafkaConsumer, topic: str) -> Source:
    """Hands over at once what it is asked for."""
    nothing: Any = lambda *_: {}  # noqa: E731
    return Source(kafka, topic, Ownership(nothing, lambda _, drained: drained(), nothing, nothing, nothing))


def test_a_join_whose_reason_went_away_is_brought_to_its_end(consumer) -> None:
    """Metadata that changes and changes back, on a loaded machine: the member would never send a heartbeat again."""
    kafka, topic = consumer
    source = member(kafka, topic)
    wait_for(lambda: source.poll(50, 1) or source.joined, "it never joined")
    coordinator = kafka._coordinator
    needed, join = coordinator.need_rejoin, coordinator._do_join_and_sync_async

    async def slow() -> Any:
        assignment = await join()
        await kafka._net.sleep(0.5)
        return assignment

    coordinator._do_join_and_sync_async, coordinator.need_rejoin = slow, lambda: True
    source.poll(50, 1)
    coordinator._do_join_and_sync_async, coordinator.need_rejoin = join, needed
    assert not source.joined, "the join was over at once, so this shows nothing"
    wait_for(lambda: source.poll(50, 1) or source.joined, "the join never ended", seconds=20.0)


def test_what_was_set_aside_comes_forward_although_another_batch_was_used_up(stack, consumer) -> None:
    """As when the pipeline is full while a partition is handed over to this worker, and then nothing more is sent."""
    kafka, topic = consumer
    for partition in (0, 1):
        publish(stack.bootstrap_servers, topic, [bare(f"cr-{n}", n) for n in range(EACH)], partition=partition)
    source = member(kafka, topic)
    received: dict[int, int] = {0: 0, 1: 0}

    def poll(at_most: int) -> None:
        for record in source.poll(50, at_most):
            received[record.origin.partition] += 1

    def until(partition: int, count: int, at_most: int) -> None:
        wait_for(lambda: poll(at_most) or received[partition] >= count, f"{received} received", seconds=30.0)

    first, other = TopicPartition(topic, 0), TopicPartition(topic, 1)
    wait_for(lambda: poll(1) or sum(received.values()), "nothing was received")
    if received[1]:
        first, other = other, first
    kafka.pause(first)
    until(other.partition, EACH, EACH)
    kafka.resume(first)
    until(first.partition, EACH, EACH)
