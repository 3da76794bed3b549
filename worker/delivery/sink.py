"""Where records go out. One interface for both guarantees: what is sent, and when it counts as delivered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from worker.types import Headers

Acknowledged = Callable[[Exception | None], None]
"""Called once per record, on any thread: with None when every in-sync replica has it, else with the error."""

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class Sink(Protocol):
    """Sends records in order per key; never blocks for long."""

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, acknowledged: Acknowledged
    ) -> None:
        """Hand one record over. What can be told at once is told through `acknowledged` too, never raised."""
        ...

    def close(self, timeout_seconds: float) -> None:
        """Give up what is not acknowledged by then."""
        ...


class AtLeastOnceSink:
    """An idempotent producer that retries without limit: the pipeline bounds what is unacknowledged."""

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, acknowledged: Acknowledged
    ) -> None:
        """Queue one record in the producer."""
        try:
            future = self._append(topic, key, value, headers)
        except (KafkaError, ValueError, TypeError, AssertionError) as error:
            acknowledged(error)
            return
        future.add_callback(lambda _: acknowledged(None))
        future.add_errback(acknowledged)

    def _append(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Any:
        if (key is None and value is None) or any(content is None for _, content in headers):
            return _append_odd(self._producer, topic, key, value, headers)
        return self._producer.send(topic, value, key=key, headers=list(headers))

    def close(self, timeout_seconds: float) -> None:
        """Close the producer; what is not acknowledged by then stays uncommitted and is done again."""
        self._producer.close(timeout=timeout_seconds)


def _append_odd(producer: KafkaProducer, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Any:
    """Send what Kafka allows and `KafkaProducer.send` refuses: a null header, or a null key with a null value.

    A dead letter holds the received bytes and headers unchanged, whatever they were. This takes the very steps of
    kafka-python 3.0's `send` after its checks; the tests send such records through the real broker.
    """
    producer._wait_on_metadata(topic, producer.config["max_block_ms"])
    partition = producer._partition(topic, None, key, value, key, value)
    producer._ensure_valid_record_size(producer._estimate_size_in_bytes(key, value, list(headers)))
    place = TopicPartition(topic, partition)
    if producer._transaction_manager and producer._transaction_manager.is_transactional():
        producer._transaction_manager.maybe_add_partition_to_transaction(place)
    future, *_ = producer._accumulator.append(place, None, key, value, list(headers))
    producer._sender.wakeup()
    return future
