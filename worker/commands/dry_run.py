"""`adscore worker --dry-run`: print what would be published, and leave no trace anywhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import click
import orjson
from kafka import KafkaConsumer, TopicPartition

from worker.commands import kafka
from worker.commands.compose import score_all, scoring_flow
from worker.commands.worker import Signals
from worker.delivery.cache import NoCache
from worker.delivery.revisions import Revisions
from worker.errors import CreativeError
from worker.intake.events import parse_record
from worker.metrics import Metrics
from worker.scoring.assemble import enriched_event
from worker.settings_schema import Settings
from worker.types import Creative, Record, ScoredCreative, Withdrawal

POLL_MS = 200


def dry_run(settings: Settings, noted: Signals, *, max_messages: int | None, until_idle: float | None) -> int:
    """Read from the group's committed offsets without joining it; the exit status. Raises FatalError."""
    revisions = Revisions(
        None, output_topic=settings.kafka.output_topic, keep_seconds=1, max_creatives=settings.redis.revision_max
    )
    stop = threading.Event()
    noted.on_stop(stop.set)
    topic = settings.kafka.input_topic
    with (
        kafka.reached(settings.kafka),
        kafka.consumer(settings.kafka, group_id=settings.kafka.group_id) as consumer,
        ExitStack() as stack,
    ):
        # Before the engines are loaded: what can't be read is told within a verb's time.
        consumer.assign([TopicPartition(topic, number) for number in kafka.partitions(consumer, topic)])
        flow = stack.enter_context(scoring_flow(settings, cache=NoCache(), metrics=Metrics()))
        records = _records(settings, consumer, stop, max_messages, until_idle)
        for record, outcome in _outcomes(settings, flow, records):
            line = _line(record, outcome, revisions)
            if line is not None:
                click.echo(orjson.dumps(line))
    return noted.status


def _outcomes(settings: Settings, flow: Any, records: Iterator[Record | None]) -> Iterator[tuple[Record, Any]]:
    """Records in order with their outcome: scored in groups, as they arrive."""
    waiting: list[tuple[Record, Creative | Withdrawal | CreativeError]] = []

    def settle() -> Iterator[tuple[Record, Any]]:
        creatives = [(record, content) for record, content in waiting if isinstance(content, Creative)]
        scored = score_all(flow, creatives, lambda item: item[1], capacity=settings.pipeline.max_inflight)
        for record, content in waiting:
            yield record, next(scored)[1] if isinstance(content, Creative) else content
        waiting.clear()

    for record in records:
        if record is not None:
            try:
                waiting.append((record, parse_record(record)))
            except CreativeError as error:
                waiting.append((record, error))
        if record is None or len(waiting) >= settings.pipeline.max_inflight:
            yield from settle()
    yield from settle()


def _line(record: Record, outcome: Any, revisions: Revisions) -> dict[str, Any] | None:
    if isinstance(outcome, Withdrawal):
        revisions.published(outcome.creative_id, None, record.origin)
        return {"creative_id": outcome.creative_id, "status": "withdrawn"}
    if isinstance(outcome, ScoredCreative):
        creative, origin = outcome.creative, record.origin
        if revisions.is_superseded(creative.creative_id, creative.lastmod, origin, creative.repeats):
            return None
        revisions.published(creative.creative_id, creative.lastmod, origin)
        return enriched_event(outcome, origin=origin, scored_at_ms=time.time_ns() // 1_000_000)
    return {
        "input": str(record.origin),
        "creative_id": _creative_id(record),
        "status": "failed",
        "errors": [{"code": str(outcome.code), "message": outcome.message}],
    }


def _creative_id(record: Record) -> str | None:
    try:
        return parse_record(record).creative_id
    except CreativeError:
        return None


def _records(
    settings: Settings,
    consumer: KafkaConsumer,
    stop: threading.Event,
    max_messages: int | None,
    until_idle: float | None,
) -> Iterator[Record | None]:
    """Records from the committed offsets on; None whenever there is a pause."""
    received, busy_at = 0, time.monotonic()
    while not stop.is_set() and (max_messages is None or received < max_messages):
        left = settings.pipeline.max_inflight if max_messages is None else max_messages - received
        polled = consumer.poll(timeout_ms=POLL_MS, max_records=left)
        for messages in polled.values():
            for message in messages:
                received += 1
                yield kafka.record(message)
        yield None
        if polled:
            busy_at = time.monotonic()
        elif until_idle is not None and time.monotonic() - busy_at >= until_idle:
            return
