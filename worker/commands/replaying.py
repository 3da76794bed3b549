"""Dead letters back onto the topic they came from: each once, by a memory in Redis of what was sent."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import click
import orjson

from worker.commands import dlq, kafka, present, reading, redis
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
        records = reading.read(client, *reading.span(client, topic))
        chosen = _chosen(records, wanted, memory.holds, _partitions(client), done)
        if dry_run:
            for record, _ in chosen:
                done.sent += 1
                click.echo(orjson.dumps(dlq.summary(record)))
            return done
        with kafka.producer(settings.kafka, idempotent=False) as producer:
            for record, place in _paced(chosen, wanted.rate):
                refusal = _send(producer, record, place)
                if refusal:
                    _tell(record, refusal, done)
                else:
                    done.sent += 1
                    memory.add(record)
    return done


def original(record: Record) -> Headers:
    """The headers as first received, with `adscore_replays` counted up."""
    replays = kafka.text_headers(record.headers).get(REPLAYS, "0")
    count = int(replays) + 1 if replays.isascii() and replays.isdigit() and len(replays) < 10 else 1
    kept = tuple((name, value) for name, value in record.headers if not name.startswith(PREFIX) and name != REPLAYS)
    return (*kept, (REPLAYS, str(count).encode()))


class _NowhereError(Exception):
    """This dead letter can't go back to where it came from; the text says why."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a dead letter came from. partition None: its key decides."""

    topic: str
    partition: int | None


def _chosen(
    records: Iterator[Record],
    wanted: Wanted,
    sent_before: Callable[[Record], bool],
    partitions: Callable[[str], Set[int]],
    done: Done,
) -> Iterator[tuple[Record, _Place]]:
    taken = 0
    for record in records:
        headers = kafka.text_headers(record.headers)
        if wanted.code and headers.get(PREFIX + "code") != wanted.code:
            continue
        if not wanted.again and sent_before(record):
            done.before += 1
            continue
        if PREFIX + "truncated" in headers:
            done.truncated += 1
            continue
        try:
            place = _came_from(record, headers, partitions)
        except _NowhereError as error:
            _tell(record, str(error), done)
            continue
        yield record, place
        taken += 1
        if taken == wanted.limit:
            return


def _came_from(record: Record, headers: Mapping[str, str], partitions: Callable[[str], Set[int]]) -> _Place:
    """Raises _NowhereError. Whoever may write to the dead letters may have written these headers."""
    topic = headers.get(PREFIX + "topic")
    if not topic:
        raise _NowhereError("names no topic that it came from")
    known = partitions(topic)
    if not known:
        raise _NowhereError(f"came from {present.plain(topic)}, and there is no such topic")
    if record.key is not None:
        return _Place(topic, None)
    # A record without a key stays on the partition that it came from; every other is placed by its key.
    named = headers.get(PREFIX + "partition", "")
    partition = int(named) if re.fullmatch(r"\d{1,9}", named, re.ASCII) else None
    if partition not in known:
        raise _NowhereError(f"has no key, and {topic} has no partition {present.plain(named) or 'that it names'}")
    return _Place(topic, partition)


def _partitions(client: Any) -> Callable[[str], Set[int]]:
    """A topic's partitions, none where there is no such topic; each topic is asked for once."""
    return cache(lambda topic: frozenset(client.partitions_for_topic(topic) or ()))


def _paced(chosen: Iterator[tuple[Record, _Place]], rate: float | None) -> Iterator[tuple[Record, _Place]]:
    due = time.monotonic()
    for each in chosen:
        if rate:
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic()) + 1 / rate
        yield each


def _send(producer: Any, record: Record, place: _Place) -> str | None:
    """None when it is acknowledged, or why the broker refuses this record. Raises KafkaError for any other failure."""
    from kafka import errors

    written_ms = dlq.received_ms(kafka.text_headers(record.headers))
    try:
        kafka.send(
            producer,
            place.topic,
            record.key,
            record.value,
            original(record),
            partition=place.partition,
            timestamp_ms=written_ms if written_ms is not None and written_ms >= 0 else None,
        ).get(timeout=2 * kafka.REQUEST_TIMEOUT_MS / 1000)
    except (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError):
        return f"larger than {place.topic} takes"
    except errors.InvalidTimestampError:
        return f"{place.topic} does not take its timestamp"
    except (errors.InvalidTopicError, errors.TopicAuthorizationFailedError, errors.InvalidRecordError) as error:
        return f"{place.topic} does not take it: {type(error).__name__.removesuffix('Error')}"
    return None


def _tell(record: Record, reason: str, done: Done) -> None:
    click.echo(f"{record.origin.partition}:{record.origin.offset}: {reason}", err=True)
    done.failed += 1


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
