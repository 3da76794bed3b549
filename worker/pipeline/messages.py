"""What is written for each outcome: the enriched event, the withdrawal, the dead letter, and why writing failed."""

from __future__ import annotations

import time
from dataclasses import dataclass

import orjson
from kafka.errors import KafkaError

from worker.delivery.dead_letters import dead_letter_record, fits
from worker.delivery.outbox import LOWERED, TOO_LARGE, Message
from worker.errors import Code, CreativeError, FatalError, Stage
from worker.scoring.assemble import SHADOW_TYPE, enriched_event, enriched_headers, withdrawn_headers
from worker.types import Origin, Record, ScoredCreative, Withdrawal


@dataclass(frozen=True)
class Delivery:
    """How outputs are written: topics, their `max.message.bytes`, `ce_source`, and this worker's name."""

    output_topic: str
    dlq_topic: str
    max_output_bytes: int
    max_dlq_bytes: int
    source: str
    worker_id: str
    max_consecutive_dead_letters: int = 0


def scored_message(scored: ScoredCreative, origin: Origin, how: Delivery) -> tuple[Message | None, str]:
    """The enriched event (None where it doesn't fit the output topic) and its status."""
    now_ms = time.time_ns() // 1_000_000
    event = enriched_event(scored, origin=origin, scored_at_ms=now_ms)
    headers = enriched_headers(scored.creative, origin, source=how.source, time_ms=now_ms)
    key, value = scored.creative.creative_id.encode(), orjson.dumps(event)
    if not fits(key, value, headers, how.max_output_bytes):
        return None, event["status"]
    return Message(how.output_topic, key, value, headers), event["status"]


def shadow_message(scored: ScoredCreative, origin: Origin, topic: str, source: str) -> Message:
    """What a candidate made of the creative: an enriched event of another type."""
    now_ms = time.time_ns() // 1_000_000
    event = enriched_event(scored, origin=origin, scored_at_ms=now_ms)
    headers = enriched_headers(scored.creative, origin, source=source, time_ms=now_ms, kind=SHADOW_TYPE)
    return Message(topic, scored.creative.creative_id.encode(), orjson.dumps(event), headers)


def withdrawal_message(withdrawal: Withdrawal, origin: Origin, how: Delivery) -> Message:
    """The null value that withdraws a creative from the compacted output topic."""
    headers = withdrawn_headers(withdrawal, origin, source=how.source, time_ms=time.time_ns() // 1_000_000)
    return Message(how.output_topic, withdrawal.creative_id.encode(), None, headers)


def dead_letter(record: Record, error: CreativeError, how: Delivery) -> Message:
    """The dead letter of a record."""
    key, value, headers = dead_letter_record(record, error, how.worker_id, how.max_dlq_bytes)
    return Message(how.dlq_topic, key, value, headers)


def too_large() -> CreativeError:
    """Why an event is not published."""
    return CreativeError(Code.PUBLISH_TOO_LARGE, Stage.PUBLISH, "the enriched event doesn't fit the output topic")


def fatal(topic: str, error: Exception) -> FatalError:
    """Why the worker can't go on, and the mend."""
    why = type(error).__name__
    if isinstance(error, KafkaError) and why in ("TopicAuthorizationFailedError", "ClusterAuthorizationFailedError"):
        return FatalError(f"no right to write to topic {topic}: grant Write on it to this principal", exit_code=3)
    if isinstance(error, KafkaError) and why in ("UnknownTopicOrPartitionError", "UnknownTopicIdError"):
        return FatalError(f"topic {topic} doesn't exist: run `adscore topics create`", exit_code=3)
    if isinstance(error, TOO_LARGE):
        return FatalError(LOWERED, exit_code=1)
    return FatalError(f"can't write to topic {topic}: {why}", exit_code=1)
