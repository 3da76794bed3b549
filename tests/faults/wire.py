"""What went over the broker: publish records, read whole topics back, ask for a group's offsets and members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from tests.faults.creatives import Outgoing, Pairs
from worker.commands.kafka import MAX_REQUEST_BYTES, send

Place = tuple[int, int]
"""Partition and offset on the input topic."""


@dataclass(frozen=True)
class Found:
    """A record as a consumer sees it."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Pairs

    def header(self, name: str) -> str | None:
        """The last header of that name as text."""
        values = [value for each, value in self.headers if each == name]
        return None if not values or values[-1] is None else values[-1].decode()

    @property
    def event(self) -> dict[str, Any]:
        """The value as JSON."""
        assert self.value is not None, f"the record of {self.key!r} is a tombstone"
        return orjson.loads(self.value)

    @property
    def source(self) -> Place:
        """Which input record an output (or a withdrawal) or a dead letter was made of."""
        if (partition := self.header("adscore_dlq_partition")) is not None:
            return int(partition), int(self.header("adscore_dlq_offset") or -1)
        told = self.header("adscore_source") or self.header("ce_id") or ""
        _, partition, offset = told.rsplit(":", 2)
        return int(partition), int(offset)


@contextmanager
def producing(servers: str) -> Iterator[KafkaProducer]:
    """A producer as any sender's: murmur2 over the key."""
    client = KafkaProducer(
        bootstrap_servers=servers,
        acks="all",
        linger_ms=2,
        max_request_size=MAX_REQUEST_BYTES,
        allow_auto_create_topics=False,
    )
    try:
        yield client
    finally:
        client.close(timeout=10)


def publish(
    servers: str, topic: str, records: Iterable[Outgoing], *, partition: int | None = None, timestamp_ms: int = 0
) -> list[Place]:
    """Publish and wait for every acknowledgement; where each record lies, in order."""
    with producing(servers) as client:
        futures = [
            send(
                client,
                topic,
                record.key,
                record.value,
                record.headers,
                partition=partition,
                timestamp_ms=timestamp_ms or None,
            )
            for record in records
        ]
        client.flush(timeout=60)
        return [(future.value.partition, future.value.offset) for future in futures]


def read_all(servers: str, topic: str) -> list[Found]:
    """Every committed record that lies on the topic now; of each partition in order."""
    client = KafkaConsumer(
        bootstrap_servers=servers,
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    try:
        places = [TopicPartition(topic, number) for number in sorted(client.partitions_for_topic(topic) or ())]
        assert places, f"there is no topic {topic}"
        client.assign(places)
        ends = client.end_offsets(places)
        found: list[Found] = []
        while any(client.position(place) < ends[place] for place in places):
            for messages in client.poll(timeout_ms=500).values():
                found += [Found(m.partition, m.offset, m.timestamp, m.key, m.value, tuple(m.headers)) for m in messages]
        return found
    finally:
        client.close()


def committed(servers: str, group: str, topic: str) -> dict[int, int]:
    """The group's committed offset of each partition that has one."""
    client = KafkaConsumer(bootstrap_servers=servers, group_id=group, enable_auto_commit=False)
    try:
        offsets = {
            number: client.committed(TopicPartition(topic, number)) for number in client.partitions_for_topic(topic)
        }
        return {number: offset for number, offset in offsets.items() if offset is not None}
    finally:
        client.close()


def group_state(servers: str, group: str) -> dict[str, Any]:
    """The group as the coordinator describes it: `protocol_data`, `group_state`, `members`."""
    client = KafkaAdminClient(bootstrap_servers=servers)
    try:
        return client.describe_groups([group])[group]
    finally:
        client.close()
