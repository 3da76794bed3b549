"""Kafka for the verbs: one way to connect, to read a topic as it stands, to write, and to fail."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from worker.commands.edge import UNAVAILABLE, of_standard_output
from worker.errors import FatalError
from worker.settings import masked
from worker.types import Headers, Origin, Record

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

    from worker.settings_schema import Kafka

BOOTSTRAP_TIMEOUT_MS = 10_000
REQUEST_TIMEOUT_MS = 10_000
CLOSE_TIMEOUT_MS = 2_000
MAX_REQUEST_BYTES = 128 * 1024 * 1024


def kafka_client_config(kafka: Kafka) -> dict[str, Any]:
    """What every client needs: where the brokers are, how to be let in, and time-outs within a verb's 30 s."""
    config: dict[str, Any] = {
        "bootstrap_servers": list(kafka.bootstrap_servers),
        "security_protocol": kafka.security_protocol,
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "request_timeout_ms": REQUEST_TIMEOUT_MS,
    }
    if kafka.ssl_cafile:
        config["ssl_cafile"] = kafka.ssl_cafile
    if kafka.security_protocol.startswith("SASL"):
        config["sasl_mechanism"] = kafka.sasl_mechanism
        config["sasl_plain_username"] = kafka.sasl_username
        config["sasl_plain_password"] = kafka.sasl_password.get_secret_value()
    return config


@contextmanager
def reached(kafka: Kafka) -> Iterator[None]:
    """Turns what the client raises about the broker, the network or TLS files into exit status 3 and what to check."""
    from kafka.errors import KafkaError

    try:
        yield
    except (KafkaError, OSError) as error:
        if isinstance(error, OSError) and of_standard_output(error):
            raise
        raise unreachable(kafka, error) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves the client's own warnings out of a verb's output: what fails is told once, by its exit."""
    log = logging.getLogger("kafka")
    level = log.level
    if level > logging.DEBUG:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def unreachable(kafka: Kafka, error: BaseException) -> FatalError:
    """Exit status 3: what failed, and which settings decide about it."""
    servers = ", ".join(masked(server) for server in kafka.bootstrap_servers)
    check = "ADSCORE_KAFKA__BOOTSTRAP_SERVERS and that the broker runs"
    if kafka.security_protocol != "PLAINTEXT":
        check += f"; with {kafka.security_protocol} also user name, password and ADSCORE_KAFKA__SSL_CAFILE"
    reason = str(error)[:200] or type(error).__name__
    return FatalError(f"Kafka at {servers}: {reason}; check {check}", exit_code=UNAVAILABLE)


@contextmanager
def admin(kafka: Kafka) -> Iterator[KafkaAdminClient]:
    """An admin client, closed at the end."""
    from kafka import KafkaAdminClient

    with _quiet():
        client = KafkaAdminClient(**kafka_client_config(kafka))
        try:
            yield client
        finally:
            client.close()


@contextmanager
def producer(kafka: Kafka, *, idempotent: bool = True) -> Iterator[KafkaProducer]:
    """A producer that waits for all replicas; its partitioner is murmur2 over the key's bytes, as every writer's.

    idempotent: one record that the broker refuses ends kafka-python's idempotent producer for all that come behind it.
    """
    from kafka import KafkaProducer

    with _quiet():
        client = KafkaProducer(
            **kafka_client_config(kafka),
            acks="all",
            enable_idempotence=idempotent,
            linger_ms=5,
            batch_size=256 * 1024,
            max_request_size=MAX_REQUEST_BYTES,
            allow_auto_create_topics=False,
            max_block_ms=REQUEST_TIMEOUT_MS,
            delivery_timeout_ms=2 * REQUEST_TIMEOUT_MS,
        )
        try:
            yield client
        finally:
            client.close(timeout=CLOSE_TIMEOUT_MS / 1000)


def send(
    client: KafkaProducer,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    *,
    partition: int | None = None,
    timestamp_ms: int | None = None,
) -> Any:
    """Send any record that Kafka allows, and return its future. partition None: by the key."""
    from worker.delivery.outbox import Message, append

    return append(client, Message(topic, key, value, headers), partition=partition, timestamp_ms=timestamp_ms)


@contextmanager
def consumer(kafka: Kafka, group_id: str | None = None) -> Iterator[KafkaConsumer]:
    """A consumer of committed records only, that commits nothing. group_id: whose offsets it starts at."""
    from kafka import KafkaConsumer

    from worker.intake.header_names import accept_any

    accept_any()
    with _quiet():
        client = KafkaConsumer(
            **kafka_client_config(kafka),
            group_id=group_id,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            max_partition_fetch_bytes=1024 * 1024,
        )
        try:
            yield client
        finally:
            client.close(timeout_ms=CLOSE_TIMEOUT_MS)


def partitions(client: KafkaConsumer, topic: str) -> list[int]:
    """The topic's partitions. Raises FatalError (exit status 3) when there is no such topic."""
    found = client.partitions_for_topic(topic)
    if not found:
        raise no_topic(topic)
    return sorted(found)


def no_topic(topic: str) -> FatalError:
    """Exit status 3, and which verb mends it."""
    return FatalError(f"there is no topic {topic}: `adscore topics create` makes it", exit_code=UNAVAILABLE)


def record(message: Any) -> Record:
    """A consumed message as the worker's own value."""
    headers: Headers = tuple((name, value) for name, value in message.headers or ())
    return Record(
        Origin(message.topic, message.partition, message.offset, message.timestamp), message.key, message.value, headers
    )


def text_headers(headers: Headers) -> Mapping[str, str]:
    """Headers as an object of strings; of repeated names the last counts."""
    return {name: (value or b"").decode(errors="replace") for name, value in headers}
