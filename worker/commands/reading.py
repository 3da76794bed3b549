"""Read a topic as it stands now, from outside any group: all of it, its last records, or what comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError

from worker.commands import kafka
from worker.types import Record

if TYPE_CHECKING:
    from kafka import KafkaConsumer

POLL_MS = 500
SILENCE_SECONDS = 15.0
"""So long without a record or a step forward, and the broker counts as gone."""

Offsets = dict[TopicPartition, int]


def span(client: KafkaConsumer, topic: str) -> tuple[Offsets, Offsets]:
    """(first, end) offsets per partition. Raises FatalError (exit status 3) when there is no such topic."""
    parts = [TopicPartition(topic, partition) for partition in kafka.partitions(client, topic)]
    return client.beginning_offsets(parts), client.end_offsets(parts)


def read(client: KafkaConsumer, first: Offsets, end: Offsets) -> Iterator[Record]:
    """Records from `first` up to `end`, per partition in order. Raises KafkaTimeoutError when the broker is silent."""
    left = {part for part in end if first[part] < end[part]}
    client.assign(list(left))
    # A partition that was read before is still paused if it stays assigned.
    client.resume(*left)
    for part in left:
        client.seek(part, first[part])
    heard = time.monotonic()
    while left:
        polled = client.poll(timeout_ms=POLL_MS)
        for part, messages in polled.items():
            yield from (kafka.record(message) for message in messages if message.offset < end[part])
        # Offsets have gaps (compaction, transaction markers): the position tells the end, not the last record.
        done = {part for part in left if client.position(part) >= end[part]}
        if done:
            left -= done
            client.pause(*done)
        if polled or done:
            heard = time.monotonic()
        elif time.monotonic() - heard > SILENCE_SECONDS:
            raise KafkaTimeoutError(f"no answer for {SILENCE_SECONDS:.0f} s")


def last(client: KafkaConsumer, topic: str, count: int) -> tuple[list[Record], Offsets]:
    """The last `count` records over all partitions, oldest first, and the offsets behind them.

    A window at the end of each partition is widened until it holds enough, for offsets have gaps.
    """
    begin, end = span(client, topic)
    window = count
    while True:
        first = {part: max(begin[part], end[part] - window) for part in end}
        records = list(read(client, first, end))
        if len(records) >= count or first == begin:
            break
        window *= 4
    records.sort(key=lambda record: (record.origin.timestamp_ms, record.origin.partition, record.origin.offset))
    return records[len(records) - min(count, len(records)) :], end


def follow(client: KafkaConsumer, start: Offsets) -> Iterator[Record]:
    """What comes from `start` on, for ever."""
    client.assign(list(start))
    for part, offset in start.items():
        client.seek(part, offset)
    while True:
        for messages in client.poll(timeout_ms=POLL_MS).values():
            yield from (kafka.record(message) for message in messages)
