"""Where records go out. One interface for both guarantees: what is handed over, and when it counts as delivered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordListTooLargeError
from kafka.producer import producer_batch

from worker.types import Headers, Origin

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
LOWERED = (
    "a topic's max.message.bytes was lowered below what this worker writes: raise it again, or start the worker anew, "
    "which reads it at its start and dead-letters what doesn't fit"
)
"""A transaction and an idempotent producer both end with the record that a broker finds too large."""


@dataclass(frozen=True)
class Message:
    """One record to write."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True)
class Outgoing:
    """What one input record leads to. `message` is None where it leads to nothing (superseded).

    settled: called once, on any thread: with None when the outcome is durable, else with the error.
    is_lost: whether the input's partition has gone to another worker, so that nothing of it may be written.
    """

    origin: Origin
    message: Message | None
    settled: Callable[[Exception | None], None]
    is_lost: Callable[[], bool] = lambda: False


class StepFailedError(Exception):
    """A transaction came to nothing: go back to the committed offsets and do it again. Nothing of it is visible."""


class Outbox(Protocol):
    """Used by the delivery thread alone."""

    in_order: bool
    """Whether outcomes must be handed over in the order of their offsets, partition by partition."""

    @property
    def full(self) -> bool:
        """Whether `flush` must come before the next `put`."""
        ...

    def put(self, outgoing: Outgoing) -> None:
        """Hand an outcome over. Never blocks for long; what goes wrong is told through `settled`."""
        ...

    def due_in(self, now: float) -> float | None:
        """Seconds until `flush` should be called; None when nothing waits."""
        ...

    def flush(self) -> None:
        """Make durable what was put. Raises StepFailedError, or FatalError."""
        ...

    def recover(self, stopping: Callable[[], bool]) -> None:
        """After StepFailedError: be able to write again, however long the brokers are away, or until `stopping`."""
        ...

    def close(self, timeout_seconds: float) -> None:
        """Give up what is not durable by then."""
        ...


class AtLeastOnceOutbox:
    """An idempotent producer that retries without limit: the pipeline bounds what is unacknowledged."""

    in_order = False
    full = False

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer
        self._closing = False

    def put(self, outgoing: Outgoing) -> None:
        """Queue one record in the producer; settled when every in-sync replica has it.

        The first record for a topic waits for its partitions to be known, while brokers are away as long as they are.
        """
        settled = outgoing.settled
        if outgoing.message is None:
            settled(None)
            return
        try:
            future = self._append(outgoing.message)
        except (KafkaError, ValueError, TypeError, AssertionError) as error:
            settled(error)
            return
        future.add_callback(lambda _: settled(None))
        future.add_errback(settled)

    def _append(self, message: Message) -> Any:
        while True:
            try:
                return append(self._producer, message)
            except KafkaTimeoutError:
                if self._closing:
                    raise

    def due_in(self, now: float) -> float | None:
        """Nothing waits here: the producer sends by itself."""
        del now
        return None

    def flush(self) -> None:
        """Nothing to do."""

    def recover(self, stopping: Callable[[], bool]) -> None:
        """Never needed: the producer retries by itself."""

    def close(self, timeout_seconds: float) -> None:
        """Close the producer; what is not acknowledged by then stays uncommitted and is done again."""
        self._closing = True

        def close() -> None:
            with suppress(KafkaError):  # the reason to close is the one to be told
                self._producer.close(timeout=timeout_seconds)

        # With a broker that hangs, kafka-python waits longer than it was told: it is left to itself then.
        closing = threading.Thread(target=close, name="close", daemon=True)
        closing.start()
        closing.join(timeout_seconds)


def append(
    producer: KafkaProducer, message: Message, *, partition: int | None = None, timestamp_ms: int | None = None
) -> Any:
    """Queue a record; the future of its acknowledgement. Raises KafkaError where it can be told at once.

    partition None: by the key. timestamp_ms None: now.
    """
    topic, key, value, headers = message.topic, message.key, message.value, list(message.headers)
    if (key is not None or value is not None) and all(content is not None for _, content in headers):
        return producer.send(topic, value, key=key, headers=headers, partition=partition, timestamp_ms=timestamp_ms)
    # Kafka allows a null header, and a null key with a null value; `KafkaProducer.send` refuses both. A dead letter
    # holds the received bytes and headers unchanged, whatever they were: these are the very steps of kafka-python
    # 3.0's `send` after its checks, and the tests send such records through the real broker.
    producer_batch.len = _length  # it sums up header values for a metric, null ones too
    producer._wait_on_metadata(topic, producer.config["max_block_ms"])
    producer._ensure_valid_record_size(producer._estimate_size_in_bytes(key, value, headers))
    place = TopicPartition(topic, producer._partition(topic, partition, key, value, key, value))
    if producer._transaction_manager and producer._transaction_manager.is_transactional():
        producer._transaction_manager.maybe_add_partition_to_transaction(place)
    future, *_ = producer._accumulator.append(place, timestamp_ms, key, value, headers)
    producer._sender.wakeup()
    return future


def _length(value: Any) -> int:
    return 0 if value is None else len(value)
