"""What ad servers hold: a sample of the output topic, told as the share that is whole and by the models of today.

Each draw takes an offset at random, over all partitions by their length, and counts if a record lies exactly there: so
every record is as likely as any other, also where compaction has left gaps. What compaction hasn't removed yet is
drawn like the rest.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from kafka import TopicPartition
from kafka.errors import AuthorizationError, KafkaError

from worker.metrics import Metrics

DRAWS = 20
TRIES = 5
"""Offsets tried for one draw; on a topic that is mostly gaps a sample is smaller."""
POLL_MS = 500
ANSWER_SECONDS = 2.0
_log = structlog.get_logger(__name__)


class ServedSample:
    """Samples at intervals on a thread of its own. Brokers that don't answer count for nothing.

    Args:
        make_consumer: builds a consumer outside any group, of committed records; used and closed here.
        models_version: the worker's own `ads_mv`: what another set of models scored is stale.
    """

    def __init__(
        self,
        make_consumer: Callable[[], Any],
        topic: str,
        models_version: str,
        metrics: Metrics,
        interval_seconds: float,
    ) -> None:
        self._make_consumer, self._topic, self._version = make_consumer, topic, models_version
        self._metrics, self._interval = metrics, interval_seconds
        self._over = threading.Event()
        self._random = random.Random()  # noqa: S311  which records are looked at is no secret
        self._thread = threading.Thread(target=self._run, name="served", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; a sample under way is not waited for."""
        self._over.set()

    def _run(self) -> None:
        # Workers that start together don't ask together.
        if self._over.wait(self._random.uniform(0, self._interval)):
            return
        while not self._over.is_set():
            try:
                self._sample()
            except AuthorizationError:
                _log.warning(
                    "served_not_sampled", mend=f"grant Read on {self._topic}, or ADSCORE_SERVED__SAMPLE_SECONDS=0"
                )
                return
            except (KafkaError, OSError) as error:
                _log.info("served_not_sampled", error=type(error).__name__)
            self._over.wait(self._interval)

    def _sample(self) -> None:
        # Connected only while it samples: twenty records a minute are not worth a standing connection.
        client = self._make_consumer()
        try:
            parts = [TopicPartition(self._topic, number) for number in client.partitions_for_topic(self._topic) or ()]
            first, end = client.beginning_offsets(parts), client.end_offsets(parts)
            lengths = [end[part] - first[part] for part in parts]
            if not any(lengths):
                return
            for _ in range(DRAWS):
                for _ in range(TRIES):
                    if self._over.is_set():
                        return
                    (part,) = self._random.choices(parts, lengths)
                    offset = self._random.randrange(first[part], end[part])
                    found = _record_at(client, part, offset)
                    if found is not None:
                        state = state_of(found.value, self._version)
                        self._metrics.served_sampled.labels(state).inc()
                        break
        finally:
            client.close(timeout_ms=1_000)


def state_of(value: bytes | None, models_version: str) -> str:
    """`fresh`, `stale` (by another set of models), `partial`, `withdrawn`, or `unreadable` (not ours)."""
    if value is None:
        return "withdrawn"
    try:
        event = orjson.loads(value)
        version, status = event["targeting"]["ads_mv"], event["status"]
    except (ValueError, KeyError, TypeError):
        return "unreadable"
    if version != models_version:
        return "stale"
    return "fresh" if status == "scored" else "partial"


def _record_at(client: Any, part: TopicPartition, offset: int) -> Any:
    """The record that lies exactly there, or None."""
    client.assign([part])
    client.seek(part, offset)
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline and client.position(part) <= offset:
        for messages in client.poll(timeout_ms=POLL_MS, max_records=1).values():
            return messages[0] if messages[0].offset == offset else None
    return None
