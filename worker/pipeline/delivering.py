"""The delivery half: outcomes in, records out, offsets finished. One thread; everything reaches it through one queue.

Outcomes arrive in any order; the outputs of one creative leave in the input's order. A record is finished, and its
offset may be committed, only when its output or dead letter is acknowledged (or it needs none).
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson
import structlog
from kafka.errors import KafkaError

from worker.delivery.dead_letters import dead_letter_record, fits
from worker.delivery.offsets import PartitionOffsets
from worker.delivery.revisions import Revisions
from worker.delivery.sink import TOO_LARGE, Sink
from worker.errors import Code, CreativeError, FatalError, Stage
from worker.metrics import Metrics
from worker.pipeline.job import Outcome
from worker.scoring.assemble import enriched_event, enriched_headers, withdrawn_headers
from worker.types import Creative, Headers, Record, ScoredCreative, Withdrawal

_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class Assignment:
    """One stay of a partition with this worker. `lost` work is neither published nor counted."""

    partition: int
    offsets: PartitionOffsets = field(default_factory=PartitionOffsets)
    lost: bool = False


@dataclass(eq=False)
class Item:
    """One received record until it is finished. `content` is None for a record that could not be read."""

    record: Record
    assignment: Assignment
    content: Creative | Withdrawal | None
    outcome: Outcome | Withdrawal | None = None

    @property
    def turn(self) -> tuple[int, str] | None:
        """Records with an equal key leave in order."""
        return (id(self.assignment), self.content.creative_id) if self.content else None


@dataclass(frozen=True)
class Delivery:
    """How outputs are written."""

    output_topic: str
    dlq_topic: str
    max_output_bytes: int
    max_dlq_bytes: int
    source: str
    worker_id: str
    max_consecutive_dead_letters: int = 0


class Deliverer:
    """Owns the order of outputs, the memory of revisions and the sink.

    Args:
        finished: called on the delivery thread after each finished record.
        on_fatal: called once when the worker can't go on.
    """

    def __init__(
        self,
        sink: Sink,
        revisions: Revisions,
        how: Delivery,
        metrics: Metrics,
        finished: Callable[[Item], None],
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self._sink, self._revisions, self._how, self._metrics = sink, revisions, how, metrics
        self._finished, self._on_fatal = finished, on_fatal
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._turns: dict[tuple[int, str], deque[Item]] = {}
        self._dead_in_a_row = 0
        self._failed = False
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._thread.start()

    # From other threads.

    def admit(self, item: Item) -> None:
        """Take a record's place in its creative's order; call in the order of arrival, before any `done`."""
        self._events.put(lambda: self._admit(item))

    def done(self, item: Item, outcome: Outcome | Withdrawal) -> None:
        """The record's fate is known."""
        self._events.put(lambda: self._done(item, outcome))

    def disowned(self, assignment: Assignment) -> None:
        """Another worker owns this partition from now on: forget its order and its creatives' revisions."""
        self._events.put(lambda: self._disowned(assignment))

    def close(self, timeout_seconds: float) -> None:
        """End the thread and close the sink; what is not acknowledged stays uncommitted."""
        self._events.put(None)
        self._thread.join(timeout_seconds)
        self._sink.close(timeout_seconds)

    # On the delivery thread.

    def _run(self) -> None:
        while (event := self._events.get()) is not None:
            if self._failed:
                continue
            try:
                event()
            except Exception as error:  # noqa: BLE001  a dead delivery thread would hang the worker silently
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failed = True
        if not isinstance(error, FatalError):
            _log.error("delivery_failed", error=type(error).__name__)
        self._on_fatal(error)

    def _admit(self, item: Item) -> None:
        if item.turn is not None:
            self._turns.setdefault(item.turn, deque()).append(item)

    def _done(self, item: Item, outcome: Outcome | Withdrawal) -> None:
        item.outcome = outcome
        if item.assignment.lost:
            return
        if item.turn is None or self._turns[item.turn][0] is item:
            self._publish(item)

    def _disowned(self, assignment: Assignment) -> None:
        self._turns = {key: items for key, items in self._turns.items() if items[0].assignment is not assignment}
        self._revisions.disowned({assignment.partition})

    def _publish(self, item: Item) -> None:
        """It is the item's turn and its outcome is known."""
        if item.assignment.lost:
            return
        outcome = item.outcome
        if isinstance(outcome, CreativeError):
            self._publish_dead_letter(item, outcome)
            return
        self._dead_in_a_row = 0
        if isinstance(outcome, Withdrawal):
            self._publish_withdrawal(item, outcome)
        elif isinstance(outcome, ScoredCreative):
            self._publish_scored(item, outcome)

    def _publish_scored(self, item: Item, scored: ScoredCreative) -> None:
        creative, origin = scored.creative, item.record.origin
        if self._revisions.is_superseded(creative.creative_id, creative.lastmod, origin.partition):
            self._finish(item, "superseded")
            return
        now_ms = time.time_ns() // 1_000_000
        event = enriched_event(scored, origin=origin, scored_at_ms=now_ms)
        headers = enriched_headers(creative, origin, source=self._how.source, time_ms=now_ms)
        key, value = creative.creative_id.encode(), orjson.dumps(event)
        if not fits(key, value, headers, self._how.max_output_bytes):
            self._publish_dead_letter(item, _too_large(len(value)))
            return

        def acknowledged() -> None:
            self._revisions.published(creative.creative_id, creative.lastmod, origin)
            self._metrics.published.inc()
            for head, part in scored.heads.items():
                if part:
                    self._metrics.score.labels(head).observe(part["value"])
            self._finish(item, event["status"])

        self._send(item, self._how.output_topic, key, value, headers, acknowledged)

    def _publish_withdrawal(self, item: Item, withdrawal: Withdrawal) -> None:
        origin = item.record.origin
        headers = withdrawn_headers(withdrawal, origin, source=self._how.source, time_ms=time.time_ns() // 1_000_000)

        def acknowledged() -> None:
            self._revisions.withdrawn(withdrawal.creative_id)
            self._metrics.published.inc()
            self._finish(item, "withdrawn")

        self._send(item, self._how.output_topic, withdrawal.creative_id.encode(), None, headers, acknowledged)

    def _publish_dead_letter(self, item: Item, error: CreativeError) -> None:
        self._dead_in_a_row += 1
        limit = self._how.max_consecutive_dead_letters
        if limit and self._dead_in_a_row > limit:
            raise FatalError(
                f"{self._dead_in_a_row} dead letters in a row, more than ADSCORE_DLQ__MAX_CONSECUTIVE={limit}: "
                f"the last is {error.code}; mend the cause and start again, nothing of it is committed",
                exit_code=1,
            )
        key, value, headers = dead_letter_record(item.record, error, self._how.worker_id, self._how.max_dlq_bytes)

        def acknowledged() -> None:
            self._metrics.dead_letters.labels(str(error.code)).inc()
            _log.warning("dead_letter", code=str(error.code), stage=str(error.stage), record=str(item.record.origin))
            self._finish(item, "dead_letter")

        self._send(item, self._how.dlq_topic, key, value, headers, acknowledged)

    def _send(
        self,
        item: Item,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        acknowledged: Callable[[], None],
    ) -> None:
        started = time.monotonic()

        def settle(error: Exception | None) -> None:
            if error is None:
                self._metrics.stage.labels("publish").observe(time.monotonic() - started)
                acknowledged()
            elif isinstance(error, TOO_LARGE) and topic == self._how.output_topic:
                self._publish_dead_letter(item, _too_large(len(value or b"")))
            else:
                raise _fatal(topic, error)

        self._sink.send(topic, key, value, headers, lambda error: self._events.put(lambda: settle(error)))

    def _finish(self, item: Item, outcome: str) -> None:
        if not item.assignment.lost:
            item.assignment.offsets.finished(item.record.origin.offset)
            self._metrics.processed.labels(outcome).inc()
            age = time.time() - item.record.origin.timestamp_ms / 1000
            if outcome in ("scored", "partial"):
                self._metrics.event_age.observe(max(0.0, age))
        self._next_turn(item)

    def _next_turn(self, item: Item) -> None:
        """The item needs nothing more; whoever waited behind it may go."""
        self._finished(item)
        waiting = self._turns.get(item.turn) if item.turn else None
        if not waiting or not item.turn:
            return
        waiting.popleft()
        if not waiting:
            del self._turns[item.turn]
        elif waiting[0].outcome is not None:
            following = waiting[0]
            self._events.put(lambda: self._publish(following))


def _too_large(size: int) -> CreativeError:
    return CreativeError(
        Code.PUBLISH_TOO_LARGE, Stage.PUBLISH, f"the enriched event of {size} bytes doesn't fit the output topic"
    )


def _fatal(topic: str, error: Exception) -> FatalError:
    why = type(error).__name__
    if isinstance(error, KafkaError) and why in ("TopicAuthorizationFailedError", "ClusterAuthorizationFailedError"):
        return FatalError(f"no right to write to topic {topic}: grant Write on it to this principal", exit_code=3)
    if isinstance(error, KafkaError) and why in ("UnknownTopicOrPartitionError", "UnknownTopicIdError"):
        return FatalError(f"topic {topic} doesn't exist: run `adscore topics create`", exit_code=3)
    return FatalError(f"can't write to topic {topic}: {why}", exit_code=1)
