"""The worker's own Kafka clients: a group member, and a producer for each of the two guarantees."""

from __future__ import annotations

import uuid
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from worker.commands import kafka
from worker.commands.worker import worker_name
from worker.delivery.outbox import AtLeastOnceOutbox, Outbox
from worker.delivery.transactions import TransactionalOutbox
from worker.errors import FatalError
from worker.intake.header_names import accept_any
from worker.settings_schema import Settings
from worker.tracing import NoTracing, Tracing

FOREVER_MS = 2**31 - 1
MAX_BLOCK_MS = 10_000
METADATA_MS = 30_000
SHADOW_DELIVERY_MS = 30_000


def consumer(settings: Settings) -> KafkaConsumer:
    """A member of the group that commits by hand and reads committed records only."""
    accept_any()
    session_ms = settings.kafka.session_timeout_ms
    return KafkaConsumer(
        **kafka.kafka_client_config(settings.kafka),
        group_id=settings.kafka.group_id,
        client_id=worker_name(settings.worker_id),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=max(1, session_ms // 3),
        partition_assignment_strategy=[CooperativeStickyAssignor],
        # New partitions are found within it.
        metadata_max_age_ms=METADATA_MS,
        reconnect_backoff_max_ms=1_000,
        metrics_enabled=False,
    )


def sampler(settings: Settings) -> KafkaConsumer:
    """A consumer outside any group that fetches little at a time."""
    return KafkaConsumer(
        **kafka.kafka_client_config(settings.kafka),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        max_partition_fetch_bytes=64 * 1024,
        metrics_enabled=False,
    )


def tracing(settings: Settings) -> Tracing:
    """What `tracing.endpoint` asks for. Raises FatalError (exit status 3) where the extra isn't installed."""
    wanted = settings.tracing
    if not wanted.endpoint:
        return NoTracing()
    try:
        from worker import spans
    except ImportError as error:
        raise FatalError(
            f"ADSCORE_TRACING__ENDPOINT is set, but {error.name} isn't installed: pip install 'adscore[tracing]', "
            "or unset it",
            exit_code=3,
        ) from error
    pairs = (pair.partition("=") for pair in wanted.headers.get_secret_value().split(",") if pair)
    processor = spans.otlp(wanted.endpoint, {name.strip(): value.strip() for name, _, value in pairs})
    return spans.Spans(
        processor,
        group=settings.kafka.group_id,
        client=worker_name(settings.worker_id),
        sample_ratio=wanted.sample_ratio,
    )


def admin(settings: Settings) -> KafkaAdminClient:
    """A client that asks which topics there are."""
    return KafkaAdminClient(**kafka.kafka_client_config(settings.kafka), reconnect_backoff_max_ms=1_000)


def outbox(settings: Settings, member: KafkaConsumer) -> Outbox:
    """What `kafka.delivery` asks for. `member` is the consumer whose offsets a transaction commits."""
    if settings.kafka.delivery == "at-least-once":
        # Waiting for brokers has no limit; what is unacknowledged is bounded by the pipeline.
        return AtLeastOnceOutbox(_producer(settings, delivery_timeout_ms=FOREVER_MS))
    prefix = settings.kafka.transactional_id_prefix or settings.kafka.group_id
    name = f"{prefix}-{uuid.uuid4()}"
    timeout_ms = settings.kafka.transaction_timeout_ms

    def make() -> KafkaProducer:
        return _producer(
            settings,
            transactional_id=name,
            transaction_timeout_ms=timeout_ms,
            delivery_timeout_ms=max(timeout_ms, kafka.REQUEST_TIMEOUT_MS + 1_000),
        )

    # Half of what may be in flight commits while the other half is scored.
    enough = max(1, min(500, settings.pipeline.max_inflight // 2))
    return TransactionalOutbox(make, member.group_metadata, timeout_seconds=timeout_ms / 1000, enough_records=enough)


def shadow_outbox(settings: Settings) -> Outbox:
    """For the candidates' events: outside any transaction, so that none waits for them or fails with them."""
    return AtLeastOnceOutbox(_producer(settings, delivery_timeout_ms=SHADOW_DELIVERY_MS))


def _producer(settings: Settings, **config: Any) -> KafkaProducer:
    return KafkaProducer(
        **kafka.kafka_client_config(settings.kafka),
        client_id=worker_name(settings.worker_id),
        acks="all",
        enable_idempotence=True,
        max_block_ms=MAX_BLOCK_MS,
        linger_ms=5,
        batch_size=256 * 1024,
        compression_type="lz4",
        max_request_size=kafka.MAX_REQUEST_BYTES,
        allow_auto_create_topics=False,
        reconnect_backoff_max_ms=1_000,
        metrics_enabled=False,
        **config,
    )
