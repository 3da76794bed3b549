"""Put the worker together from its settings, run it, and take it apart in the right order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import structlog

from admodels.runtime.runner import EngineLostError
from worker.commands import clients, edge, kafka
from worker.commands.candidates import configured, shadow
from worker.commands.compose import redis_link, score_cache, scoring_flow
from worker.commands.served import ServedSample
from worker.commands.topic_watch import TopicWatch
from worker.commands.topics import described, max_message_bytes, policies
from worker.commands.worker import Signals, worker_name
from worker.delivery.marks import Marks
from worker.delivery.revisions import Revisions
from worker.errors import FatalError
from worker.health import HealthServer
from worker.intake.source import Ownership, Source
from worker.metrics import Metrics
from worker.pipeline.delivering import Deliverer
from worker.pipeline.messages import Delivery
from worker.pipeline.scoring import ScoringFlow
from worker.pipeline.suspects import Suspects
from worker.pipeline.worker import RunLimits, Worker
from worker.scoring.targeting import models_version
from worker.settings_schema import Settings

STUCK_SECONDS = 60.0
DAY_SECONDS = 86_400
LEAVE_SECONDS = 1.0
_log = structlog.get_logger(__name__)


def serve(settings: Settings, noted: Signals, *, max_messages: int | None, until_idle: float | None) -> int:
    """Run the worker until `noted` stops it; the exit status. Raises FatalError."""
    transactional = settings.kafka.delivery == "exactly-once"
    metrics = Metrics()
    limits = RunLimits(
        max_inflight=settings.pipeline.max_inflight,
        drain_seconds=settings.drain.timeout_seconds,
        transactional=transactional,
        max_messages=max_messages,
        until_idle_seconds=until_idle,
    )
    how = _delivery(settings)
    warm: list[ScoringFlow] = []
    with redis_link(settings, metrics) as link, ExitStack() as stack:
        tracing = clients.tracing(settings)
        stack.callback(tracing.close, LEAVE_SECONDS)
        worker = Worker(limits, metrics, Suspects(Marks(link, settings.kafka.group_id)), tracing)
        noted.on_stop(worker.stop)
        stack.enter_context(_health(settings, metrics, worker, warm))
        cache = score_cache(settings, link)
        flow = stack.enter_context(
            scoring_flow(
                settings, cache=cache, metrics=metrics, on_fatal=worker.fail, tracing=tracing, with_candidates=True
            )
        )
        lane = stack.enter_context(shadow(settings, flow, cache, metrics))
        stack.enter_context(kafka.reached(settings.kafka))
        warm.append(flow)
        revisions = Revisions(
            link,
            output_topic=settings.kafka.output_topic,
            keep_seconds=round(settings.redis.revision_days * DAY_SECONDS),
            max_creatives=settings.redis.revision_max,
        )
        consumer = clients.consumer(settings)
        deliverer = Deliverer(
            clients.outbox(settings, consumer),
            revisions,
            how,
            metrics,
            finished=worker.finished,
            step_failed=worker.reset,
            on_fatal=worker.fail,
            published=lane.offer if lane else None,
            is_member=lambda: worker.is_member,
        )
        held = worker.holdings
        ownership = Ownership(held.assigned, held.drain, held.committable, held.lost, held.evicted)
        worker.bind(Source(consumer, settings.kafka.input_topic, ownership), flow, deliverer)
        _log.info("started", worker=how.worker_id, group=settings.kafka.group_id, delivery=settings.kafka.delivery)
        names = (settings.kafka.input_topic, settings.kafka.output_topic, settings.kafka.dlq_topic)
        if settings.served.sample_seconds:
            version = models_version(flow.models)
            sample = ServedSample(
                lambda: clients.sampler(settings),
                settings.kafka.output_topic,
                version,
                metrics,
                settings.served.sample_seconds,
            )
            stack.callback(sample.close)
        watch = TopicWatch(clients.admin(settings), names, worker.fail)
        try:
            worker.run()
            if lane:
                lane.drain(noted.left(settings.drain.timeout_seconds) - 3 * LEAVE_SECONDS)
        except EngineLostError as error:
            raise FatalError(
                f"the engine is lost: {error}; nothing of its batch is committed, start the worker again",
                exit_code=edge.FAILED,
            ) from error
        finally:
            watch.close()
            worker.leave(LEAVE_SECONDS)
            deliverer.close(LEAVE_SECONDS)
            # What is still under way was given up: a slow host or OCR must not hold the end.
            flow.close(wait=False)
    return noted.status


def _delivery(settings: Settings) -> Delivery:
    """Where and how large outputs may be, as the topics are. Raises FatalError(3): no broker, or a topic is missing."""
    wanted = policies(settings)[: 4 if configured(settings) else 3]
    with kafka.reached(settings.kafka), kafka.admin(settings.kafka) as client:
        there = set(client.list_topics())
        missing = [policy.name for policy in wanted if policy.name not in there]
        if missing:
            raise FatalError(
                f"there is no topic {', '.join(missing)}: `adscore topics create` makes what is missing",
                exit_code=edge.UNAVAILABLE,
            )
        found = described(client, [policy.name for policy in wanted])
    sizes = [max_message_bytes(found, policy.name) for policy in wanted[1:3]]
    return Delivery(
        output_topic=settings.kafka.output_topic,
        dlq_topic=settings.kafka.dlq_topic,
        max_output_bytes=sizes[0],
        max_dlq_bytes=sizes[1],
        source=settings.event.source,
        worker_id=worker_name(settings.worker_id),
        max_consecutive_dead_letters=settings.dlq.max_consecutive,
    )


@contextmanager
def _health(settings: Settings, metrics: Metrics, worker: Worker, warm: list[ScoringFlow]) -> Iterator[None]:
    limit = settings.pipeline.engine_timeout_seconds

    def live() -> str | None:
        if time.monotonic() - worker.turned_at > STUCK_SECONDS and warm:
            return "the loop doesn't turn"
        return "the engine hangs" if warm and warm[0].engine_busy_seconds() > limit else None

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
