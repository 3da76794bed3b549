"""Dead letters back onto the topic they came from: each once, by a memory in Redis of what was sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
import orjson

from worker.commands import dlq, kafka, reading, redis
from worker.delivery.dead_letters import PREFIX
from worker.settings import Settings
from worker.types import Headers, Record

REPLAYS = "adscore_replays"
MEMORY_SECONDS = 90 * 24 * 3600
"""The memory outlives every dead letter, unless the topic keeps them longer than Kafka's default by far."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters, how many, how fast (records per second), and whether also those sent before."""

    code: str | None
    limit: int | None
    rate: float | None
    again: bool


@dataclass(slots=True)
class Done:
    """What became of the dead letters that were wanted."""

    sent: int = 0
    before: int = 0
    truncated: int = 0
    failed: int = 0


def replay(settings: Settings, wanted: Wanted, *, dry_run: bool) -> Done:
    """Send what is wanted. Raises KafkaError, or FatalError (exit status 3) without Redis, which keeps the memory."""
    done = Done()
    topic = settings.kafka.dlq_topic
    with _memory(settings, topic) as memory, kafka.consumer(settings.kafka) as client:
        chosen = _chosen(reading.read(client, *reading.span(client, topic)), wanted, memory.holds, done)
        if dry_run:
            for record in chosen:
                done.sent += 1
                click.echo(orjson.dumps(dlq.summary(record)))
            return done
        with kafka.producer(settings.kafka) as producer:
            for record in _paced(chosen, wanted.rate):
                sent = _send(producer, record)
                done.sent, done.failed = done.sent + sent, done.failed + (not sent)
                if sent:
                    memory.add(record)
    return done


def original(record: Record) -> Headers:
    """The headers as first received, with `adscore_replays` counted up."""
    replays = kafka.text_headers(record.headers).get(REPLAYS, "0")
    count = int(replays) + 1 if replays.isascii() and replays.isdigit() and len(replays) < 10 else 1
    kept = tuple((name, value) for name, value in record.headers if not name.startswith(PREFIX) and name != REPLAYS)
    return (*kept, (REPLAYS, str(count).encode()))


def _chosen(
    records: Iterator[Record], wanted: Wanted, sent_before: Callable[[Record], bool], done: Done
) -> Iterator[Record]:
    taken = 0
    for record in records:
        headers = kafka.text_headers(record.headers)
        if wanted.code and headers.get(PREFIX + "code") != wanted.code:
            continue
        if not wanted.again and sent_before(record):
            done.before += 1
        elif PREFIX + "truncated" in headers:
            done.truncated += 1
        elif PREFIX + "topic" not in headers:
            click.echo(f"{_place(record)}: names no topic that it came from", err=True)
            done.failed += 1
        else:
            yield record
            taken += 1
            if taken == wanted.limit:
                return


def _paced(records: Iterator[Record], rate: float | None) -> Iterator[Record]:
    due = time.monotonic()
    for record in records:
        if rate:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic()) + 1 / rate
        yield record


def _send(producer: Any, record: Record) -> bool:
    from kafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

    headers = kafka.text_headers(record.headers)
    written_ms = dlq.received_ms(headers)
    topic = headers[PREFIX + "topic"]
    # A record without a key stays on the partition that it came from; every other is placed by its key.
    partition = int(headers[PREFIX + "partition"]) if record.key is None else None
    try:
        kafka.send(
            producer,
            topic,
            record.key,
            record.value,
            original(record),
            partition=partition,
            timestamp_ms=written_ms if written_ms is not None and written_ms >= 0 else None,
        ).get(timeout=2 * kafka.REQUEST_TIMEOUT_MS / 1000)
    except (MessageSizeTooLargeError, RecordListTooLargeError):
        click.echo(f"{_place(record)}: larger than {topic} takes", err=True)
        return False
    return True


def _place(record: Record) -> str:
    return f"{record.origin.partition}:{record.origin.offset}"


class _Memory:
    """The dead letters of one topic that were sent back: a Redis set per partition."""

    def __init__(self, client: Any, topic_id: str) -> None:
        self._client = client
        self._prefix = f"adscore:replayed:{topic_id}"

    def _key(self, record: Record) -> str:
        return f"{self._prefix}:{record.origin.partition}"

    def holds(self, record: Record) -> bool:
        return bool(self._client.sismember(self._key(record), record.origin.offset))

    def add(self, record: Record) -> None:
        self._client.sadd(self._key(record), record.origin.offset)
        self._client.expire(self._key(record), MEMORY_SECONDS)


@contextmanager
def _memory(settings: Settings, topic: str) -> Iterator[_Memory]:
    with kafka.admin(settings.kafka) as admin:
        found = admin.describe_topics([topic])[0]
    if found["error_code"]:
        raise kafka.no_topic(topic)
    with redis.connected(settings, "dlq replay remembers there what it sent") as client:
        yield _Memory(client, str(found["topic_id"]))
