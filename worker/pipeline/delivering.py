"""The delivery half: outcomes in, records out, offsets finished. One thread; everything reaches it through one queue.

Outcomes arrive in any order; the outputs of one creative leave in the input's order (of one partition, where a
transaction commits offsets with them). A record is finished, and its offset may be committed, only when its output or
dead letter is durable (or it needs none).
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from worker.delivery.offsets import PartitionOffsets
from worker.delivery.outbox import TOO_LARGE, Message, Outbox, Outgoing, StepFailedError
from worker.delivery.revisions import Revisions
from worker.errors import CreativeError, FatalError
from worker.metrics import Metrics
from worker.pipeline.job import Outcome
from worker.pipeline.messages import Delivery, dead_letter, fatal, scored_message, too_large, withdrawal_message
from worker.tracing import NO_TRACE, Trace
from worker.types import Creative, Origin, Record, ScoredCreative, Withdrawal

_log = structlog.get_logger(__name__)

CONFIRMED_EVERY_SECONDS = 0.02
"""How often a worker that may have been replaced looks whether it was."""


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
    trace: Trace = NO_TRACE


Turn = tuple[int, str | None]


class Deliverer:
    """Owns the order of outputs, the memory of revisions and the outbox.

    Args:
        finished: called on the delivery thread for each finished record; tells whether it still counts.
        step_failed: called when a transaction came to nothing: go back to the committed offsets, then call `restart`.
        on_fatal: called once when the worker can't go on.
        published: told of each enriched event once it is durable.
        is_member: whether the group confirmed this worker lately. If not, another may own its partitions already:
            nothing is published until it does, or until they are lost.
    """

    def __init__(
        self,
        outbox: Outbox,
        revisions: Revisions,
        how: Delivery,
        metrics: Metrics,
        *,
        finished: Callable[[Item], bool],
        step_failed: Callable[[], None],
        on_fatal: Callable[[Exception], None],
        published: Callable[[Origin, ScoredCreative], None] | None = None,
        is_member: Callable[[], bool] = lambda: True,
    ) -> None:
        self._is_member = is_member
        self._published = published
        self._outbox, self._revisions, self._how, self._metrics = outbox, revisions, how, metrics
        self._finished, self._step_failed, self._on_fatal = finished, step_failed, on_fatal
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._turns: dict[Turn, deque[Item]] = {}
        self._in_step: set[Assignment] = set()
        self._dead_in_a_row = 0
        self._halted = False
        self._closing = threading.Event()
        self.unsettled = 0
        """Records handed to the outbox and not yet durable."""
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._thread.start()

    # From other threads.

    def admit(self, item: Item) -> None:
        """Take a record's place in the order; call in the order of arrival, before its `done`."""
        self._events.put(lambda: self._admit(item))

    def done(self, item: Item, outcome: Outcome | Withdrawal) -> None:
        """The record's fate is known."""
        self._events.put(lambda: self._done(item, outcome))

    def disowned(self, assignment: Assignment) -> None:
        """Another worker owns this partition from now on: forget its order and its creatives' revisions."""
        self._events.put(lambda: self._disowned(assignment))

    def restart(self) -> None:
        """After `step_failed`: everything held is forgotten, the records come again."""
        self._events.put(self._restart)

    def close(self, timeout_seconds: float) -> None:
        """End the thread and close the outbox; what is not durable stays uncommitted."""
        self._closing.set()
        self._events.put(None)
        self._thread.join(timeout_seconds)
        self._outbox.close(timeout_seconds)

    # On the delivery thread.

    def _run(self) -> None:
        failed = False
        while not self._closing.is_set():
            try:
                event = self._events.get(timeout=self._outbox.due_in(time.monotonic()))
            except queue.Empty:
                event = self._nothing
            if event is None or failed:
                continue
            try:
                event()
                # What waits already joins the step: under load steps grow, and cost less for each record.
                if self._outbox.due_in(time.monotonic()) == 0.0 and (self._events.empty() or self._outbox.full):
                    self._flush()
            except Exception as error:  # noqa: BLE001  a dead delivery thread would hang the worker silently
                failed = True
                if not isinstance(error, FatalError):
                    _log.error("delivery_failed", error=type(error).__name__)
                self._on_fatal(error)

    def _nothing(self) -> None:
        """It is time to flush."""

    def _flush(self) -> None:
        try:
            if not self._is_member():
                raise StepFailedError
            gone = {assignment.partition for assignment in self._in_step if assignment.lost}
            self._in_step.clear()
            self._revisions.disowned(gone)
            self._revisions.store_staged()
            self._outbox.flush()
            self._revisions.committed()
        except StepFailedError:
            self._halted = True
            self._revisions.rolled_back()
            self._outbox.recover(self._closing.is_set)
            self._step_failed()

    def _restart(self) -> None:
        self._turns.clear()
        self.unsettled = 0
        self._halted = False

    def _turn(self, item: Item) -> Turn | None:
        """Records of an equal turn leave in order."""
        if self._outbox.in_order:
            return (id(item.assignment), None)
        return (id(item.assignment), item.content.creative_id) if item.content else None

    def _admit(self, item: Item) -> None:
        turn = self._turn(item)
        if turn is not None and not item.assignment.lost:
            self._turns.setdefault(turn, deque()).append(item)

    def _done(self, item: Item, outcome: Outcome | Withdrawal) -> None:
        item.outcome = outcome
        if item.assignment.lost or self._halted:
            return
        turn = self._turn(item)
        if turn is None or self._turns[turn][0] is item:
            self._publish(item)

    def _disowned(self, assignment: Assignment) -> None:
        self._turns = {turn: items for turn, items in self._turns.items() if items[0].assignment is not assignment}
        self._revisions.disowned({assignment.partition})

    def _publish(self, item: Item) -> None:
        """It is the item's turn and its outcome is known."""
        if not self._outbox.in_order:
            self._wait_for_the_group(item.assignment)
        if item.assignment.lost or self._halted:
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

    def _wait_for_the_group(self, assignment: Assignment) -> None:
        if self._is_member():
            return
        self.unsettled += 1  # a drain that ends meanwhile isn't a clean one
        while not (self._is_member() or assignment.lost or self._closing.is_set()):
            time.sleep(CONFIRMED_EVERY_SECONDS)
        self.unsettled -= 1

    def _publish_scored(self, item: Item, scored: ScoredCreative) -> None:
        creative_id, lastmod, origin = scored.creative.creative_id, scored.creative.lastmod, item.record.origin
        began = item.assignment.offsets.began
        if self._revisions.is_superseded(creative_id, lastmod, origin, scored.creative.repeats, began=began):
            self._put(item, self._outgoing(item, None, lambda: self._finish(item, "superseded")))
            return
        trace = item.trace.sending(self._how.output_topic, scored.creative.trace)
        message, status = scored_message(scored.traced(trace), origin, self._how)
        if message is None:
            self._publish_dead_letter(item, too_large())
            return

        def durable() -> None:
            if not self._outbox.in_order:
                self._revisions.published(creative_id, lastmod, origin, doubtful=not self._is_member())
            self._metrics.published.inc()
            for head, part in scored.heads.items():
                if part:
                    self._metrics.score.labels(head).observe(part["value"])
            self._finish(item, status)
            if self._published is not None:
                self._published(origin, scored)

        if self._outbox.in_order:
            self._revisions.stage(creative_id, lastmod, origin, began=began)
        self._put(item, self._outgoing(item, message, durable))

    def _publish_withdrawal(self, item: Item, withdrawal: Withdrawal) -> None:
        def durable() -> None:
            if not self._outbox.in_order:
                doubtful = not self._is_member()
                self._revisions.published(withdrawal.creative_id, None, item.record.origin, doubtful=doubtful)
            self._metrics.published.inc()
            self._finish(item, "withdrawn")

        if self._outbox.in_order:
            began = item.assignment.offsets.began
            self._revisions.stage(withdrawal.creative_id, None, item.record.origin, began=began)
        trace = item.trace.sending(self._how.output_topic, withdrawal.trace)
        message = withdrawal_message(replace(withdrawal, trace=trace), item.record.origin, self._how)
        self._put(item, self._outgoing(item, message, durable))

    def _publish_dead_letter(self, item: Item, error: CreativeError) -> None:
        self._dead_in_a_row += 1
        limit = self._how.max_consecutive_dead_letters
        if limit and self._dead_in_a_row > limit:
            raise FatalError(
                f"{self._dead_in_a_row} dead letters in a row, more than ADSCORE_DLQ__MAX_CONSECUTIVE={limit}: "
                f"the last is {error.code}; mend the cause and start again, nothing of it is committed",
                exit_code=1,
            )

        def durable() -> None:
            self._metrics.dead_letters.labels(str(error.code)).inc()
            _log.warning("dead_letter", code=str(error.code), stage=str(error.stage), record=str(item.record.origin))
            self._finish(item, "dead_letter")

        # A dead letter keeps the received headers: its trace is told to nobody.
        item.trace.sending(self._how.dlq_topic, ())
        message = dead_letter(item.record, error, self._how)
        self._put(item, self._outgoing(item, message, durable))

    def _outgoing(self, item: Item, message: Message | None, durable: Callable[[], None]) -> Outgoing:
        topic = message.topic if message else self._how.output_topic
        return Outgoing(item.record.origin, message, self._posted(item, durable, topic), lambda: item.assignment.lost)

    def _put(self, item: Item, outgoing: Outgoing) -> None:
        self.unsettled += 1
        self._outbox.put(outgoing)
        if self._outbox.in_order:
            self._in_step.add(item.assignment)
            self._next_turn(item)

    def _posted(self, item: Item, durable: Callable[[], None], topic: str) -> Callable[[Exception | None], None]:
        """What the outbox calls, on any thread: the rest happens on this one."""
        started = time.monotonic()

        def settle(error: Exception | None) -> None:
            self.unsettled -= 1
            scored = isinstance(item.outcome, ScoredCreative)
            if self._outbox.in_order and item.assignment.lost:
                return  # it was left out of the transaction
            if error is None:
                self._metrics.stage.labels("publish").observe(time.monotonic() - started)
                durable()
            elif isinstance(error, TOO_LARGE) and scored and not self._outbox.in_order:
                item.outcome = too_large()
                self._publish_dead_letter(item, item.outcome)
            else:
                raise fatal(topic, error)

        return lambda error: self._events.put(lambda: settle(error))

    def _finish(self, item: Item, outcome: str) -> None:
        item.trace.end(outcome, str(item.outcome.code) if isinstance(item.outcome, CreativeError) else None)
        if self._finished(item):
            self._metrics.processed.labels(outcome).inc()
            if outcome in ("scored", "partial") and item.record.origin.timestamp_ms > 0:
                age = time.time() - item.record.origin.timestamp_ms / 1000
                self._metrics.event_age.observe(max(0.0, age))
        if not self._outbox.in_order:
            self._next_turn(item)

    def _next_turn(self, item: Item) -> None:
        """Whoever waited behind the item may go."""
        turn = self._turn(item)
        waiting = self._turns.get(turn) if turn else None
        if not waiting or not turn:
            return
        waiting.popleft()
        if not waiting:
            del self._turns[turn]
        elif waiting[0].outcome is not None:
            following = waiting[0]
            self._events.put(lambda: self._publish(following))
