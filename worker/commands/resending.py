"""The writing half of `rescore`: records back onto their partitions, as they were, with what orders them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
from kafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

from worker.commands import kafka
from worker.intake import rescored
from worker.types import Creative, Place, Record

if TYPE_CHECKING:
    from kafka import KafkaProducer

MAX_PENDING_BYTES = 32 * 1024 * 1024
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class Resender:
    """Sends, and waits for what was sent. `last`: partition → the highest offset that was acknowledged."""

    def __init__(self, producer: KafkaProducer, rate: float | None) -> None:
        self._producer, self._rate = producer, rate
        self._due = time.monotonic()
        self._pending: list[tuple[Record, Any]] = []
        self._bytes = 0
        self._sent = self._failed = 0
        self.last: dict[int, int] = {}

    def send(self, record: Record, creative: Creative) -> None:
        """Queue one; keeps to the rate. Raises KafkaError."""
        if self._rate:
            time.sleep(max(0.0, self._due - time.monotonic()))
            self._due = max(self._due, time.monotonic()) + 1 / self._rate
        origin = record.origin
        place = Place(origin.topic, origin.partition, origin.offset)
        headers = rescored.headers_of(record.headers, place, creative.lastmod)
        # A record without a key stays on the partition that it came from; every other is placed by its key.
        partition = origin.partition if record.key is None else None
        future = kafka.send(self._producer, origin.topic, record.key, record.value, headers, partition=partition)
        self._pending.append((record, future))
        self._bytes += len(record.value or b"")
        if self._bytes > MAX_PENDING_BYTES:
            self._wait()

    def settle(self) -> tuple[int, int]:
        """Wait for every acknowledgement; how many were sent and how many refused since the last call."""
        self._wait()
        settled = self._sent, self._failed
        self._sent = self._failed = 0
        return settled

    def _wait(self) -> None:
        pending, self._pending, self._bytes = self._pending, [], 0
        for record, future in pending:
            try:
                written = future.get(timeout=2 * kafka.REQUEST_TIMEOUT_MS / 1000)
            except _TOO_LARGE:
                where = record.origin
                click.echo(f"{where.partition}:{where.offset}: larger than {where.topic} takes", err=True)
                self._failed += 1
            else:
                self._sent += 1
                self.last[written.partition] = max(self.last.get(written.partition, -1), written.offset)
