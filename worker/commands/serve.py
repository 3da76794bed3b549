"""Put the worker together from its settings, run it, and take it apart in the right order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from kafka import KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from worker.commands import edge, kafka
from worker.commands.compose import redis_link, score_cache, scoring_flow
from worker.commands.topics import described, policies
from worker.commands.worker import signals, worker_name
from worker.delivery.revisions import Revisions
from worker.delivery.sink import AtLeastOnceSink
from worker.errors import FatalError
from worker.health import HealthServer
from worker.intake.source import Ownership, Source
from worker.metrics import Metrics
from worker.pipeline.delivering import Deliverer, Delivery
from worker.pipeline.scoring import ScoringFlow
from worker.pipeline.worker import RunLimits, Worker
from worker.settings_schema import Settings

STUCK_SECONDS = 60.0
BROKER_DEFAULT_MAX_BYTES = 1_048_588
FOREVER_MS = 2**31 - 1
DAY_SECONDS = 86_400
LEAVE_SECONDS = 1.0
_log = structlog.get_logger(__name__)


def serve(settings: Settings, *, max_messages: int | None, until_idle: float | None) -> int:
    """Run the worker until it is stopped; the exit status. Raises FatalError."""
    if settings.kafka.delivery != "at-least-once":
        raise FatalError(
            f"ADSCORE_KAFKA__DELIVERY={settings.kafka.delivery} isn't part of this build; use at-least-once",
            exit_code=2,
        )
    metrics = Metrics()
    with signals() as noted:
        limits = RunLimits(
            max_inflight=settings.pipeline.max_inflight,
            drain_seconds=settings.drain.timeout_seconds,
            max_messages=max_messages,
            until_idle_seconds=until_idle,
        )
        worker = Worker(limits, metrics)
        noted.on_stop(worker.stop)
        how = _delivery(settings)
        warm: list[ScoringFlow] = []
        with (
            _health(settings, metrics, worker, warm),
            redis_link(settings, metrics) as link,
            scoring_flow(settings, cache=score_cache(settings, link), metrics=metrics, on_fatal=worker.fail) as flow,
            kafka.reached(settings.kafka),
        ):
            warm.append(flow)
            revisions = Revisions(
                link,
                output_topic=settings.kafka.output_topic,
                keep_seconds=round(settings.redis.revision_days * DAY_SECONDS),
                max_creatives=settings.redis.revision_max,
            )
            sink = AtLeastOnceSink(_producer(settings))
            deliverer = Deliverer(sink, revisions, how, metrics, worker.finished, worker.fail)
            ownership = Ownership(worker.assigned, worker.drain, worker.committable, worker.lost)
            worker.bind(Source(_consumer(settings), settings.kafka.input_topic, ownership), flow, deliverer)
            _log.info("started", worker=how.worker_id, group=settings.kafka.group_id, delivery=settings.kafka.delivery)
            try:
                worker.run()
            finally:
                worker.leave(LEAVE_SECONDS)
                deliverer.close(LEAVE_SECONDS)
        return noted.status


def _delivery(settings: Settings) -> Delivery:
    """Where and how large outputs may be, as the topics are. Raises FatalError(3): no broker, or a topic is missing."""
    wanted = policies(settings)[:3]
    with kafka.reached(settings.kafka), kafka.admin(settings.kafka) as client:
        there = set(client.list_topics())
        missing = [policy.name for policy in wanted if policy.name not in there]
        if missing:
            raise FatalError(
                f"there is no topic {', '.join(missing)}: `adscore topics create` makes what is missing",
                exit_code=edge.UNAVAILABLE,
            )
        found = described(client, [policy.name for policy in wanted])
    sizes = [int(found[policy.name].get("max.message.bytes", BROKER_DEFAULT_MAX_BYTES)) for policy in wanted]
    return Delivery(
        output_topic=settings.kafka.output_topic,
        dlq_topic=settings.kafka.dlq_topic,
        max_output_bytes=sizes[1],
        max_dlq_bytes=sizes[2],
        source=settings.event.source,
        worker_id=worker_name(settings.worker_id),
        max_consecutive_dead_letters=settings.dlq.max_consecutive,
    )


@contextmanager
def _health(settings: Settings, metrics: Metrics, worker: Worker, warm: list[ScoringFlow]) -> Iterator[None]:
    def live() -> str | None:
        if time.monotonic() - worker.turned_at > STUCK_SECONDS and warm:
            return "the loop doesn't turn"
        return "the engine hangs" if warm and warm[0].engine_busy_seconds() > STUCK_SECONDS else None

    def ready() -> str | None:
        if not warm:
            return "engines are loading"
        return live() or (None if worker.is_ready else "not in the group, or no broker answers")

    try:
        server = HealthServer(settings.http.host, settings.http.port, metrics.registry, live, ready)
    except OSError as error:
        raise FatalError(
            f"can't listen on port {settings.http.port} ({error.strerror}): set ADSCORE_HTTP__PORT, 0 takes a free one",
            exit_code=edge.UNAVAILABLE,
        ) from error
    try:
        yield
    finally:
        server.close()


def _consumer(settings: Settings) -> KafkaConsumer:
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
        reconnect_backoff_max_ms=1_000,
        metrics_enabled=False,
    )


def _producer(settings: Settings) -> KafkaProducer:
    config: dict[str, Any] = kafka.kafka_client_config(settings.kafka)
    return KafkaProducer(
        **config,
        client_id=worker_name(settings.worker_id),
        acks="all",
        enable_idempotence=True,
        # Waiting for brokers has no limit; what is unacknowledged is bounded by the pipeline.
        delivery_timeout_ms=FOREVER_MS,
        max_block_ms=10_000,
        linger_ms=5,
        batch_size=256 * 1024,
        compression_type="lz4",
        max_request_size=kafka.MAX_REQUEST_BYTES,
        allow_auto_create_topics=False,
        reconnect_backoff_max_ms=1_000,
        metrics_enabled=False,
    )
