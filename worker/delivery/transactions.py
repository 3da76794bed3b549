"""Exactly-once: enriched events, dead letters and input offsets of one step commit in one Kafka transaction.

Outcomes arrive in the order of their offsets, so a step is a contiguous run of each partition. They are kept here and
sent only when the step commits: a step that fails leaves nothing behind but what the broker aborts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from kafka import KafkaProducer, TopicPartition
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicIdError,
    UnknownTopicOrPartitionError,
)
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from worker.delivery.outbox import LOWERED, TOO_LARGE, Outgoing, StepFailedError, append
from worker.errors import FatalError

_log = structlog.get_logger(__name__)
_GONE = (TopicAuthorizationFailedError, UnknownTopicIdError, UnknownTopicOrPartitionError)
_CLOSE_SECONDS = 0.5
_PAUSE_SECONDS = 0.2


class TransactionalOutbox:
    """One transactional producer per worker, replaced when a transaction comes to nothing.

    Args:
        make_producer: builds a producer with the worker's transactional id; a new one fences the old and has the
            broker end what the old one left open.
        group_metadata: the consumer's membership now; sent along, so that a replaced worker can't commit (KIP-447).
        timeout_seconds: longest wait for one transaction. kafka-python's own calls wait for ever, so they run on a
            thread that is given up.
        interval_seconds, enough_records: a step commits when its oldest outcome is so old, or it has so many: while it
            does, as much as is not in it can be scored.
        max_records: it never has more.
    """

    in_order = True

    def __init__(
        self,
        make_producer: Callable[[], KafkaProducer],
        group_metadata: Callable[[], ConsumerGroupMetadata],
        *,
        timeout_seconds: float,
        interval_seconds: float = 0.1,
        enough_records: int = 500,
        max_records: int = 500,
    ) -> None:
        self._make_producer, self._group_metadata = make_producer, group_metadata
        self._timeout, self._interval = timeout_seconds, interval_seconds
        self._enough, self._max_records = enough_records, max_records
        self._producer: KafkaProducer | None = None
        self._step: list[Outgoing] = []
        self._since = 0.0

    def put(self, outgoing: Outgoing) -> None:
        """Add an outcome to the step."""
        if not self._step:
            self._since = time.monotonic()
        self._step.append(outgoing)

    def due_in(self, now: float) -> float | None:
        """Seconds until the step should commit."""
        if not self._step:
            return None
        return 0.0 if len(self._step) >= self._enough else max(0.0, self._since + self._interval - now)

    @property
    def full(self) -> bool:
        """Whether the step has as many records as one may have."""
        return len(self._step) >= self._max_records

    def flush(self) -> None:
        """Commit the step. Raises StepFailedError; then the step is forgotten.

        What is lost is left out, and settled all the same. The membership is noted before: one that was joined after
        the loss would let the broker take what belongs to another by now.
        """
        if self._producer is None and self._step:
            kept = self._step
            self.recover(lambda: False)
            self._step = kept
        metadata = self._group_metadata()
        whole, self._step = self._step, []
        step = [outgoing for outgoing in whole if not outgoing.is_lost()]
        if step:
            self._commit(step, metadata)
        for outgoing in whole:
            outgoing.settled(None)

    def _commit(self, step: list[Outgoing], metadata: ConsumerGroupMetadata) -> None:
        producer, failure = self._producer, _Outcome()
        thread = threading.Thread(target=_transact, args=(producer, step, metadata, failure), daemon=True)
        thread.start()
        thread.join(self._timeout)
        if thread.is_alive() or failure.error is not None:
            error = failure.error
            _log.warning("transaction_failed", error=type(error).__name__ if error else "no answer in time")
            self._give_up()
            if isinstance(error, (*_GONE, *TOO_LARGE)):
                raise _fatal(error)
            raise StepFailedError from error

    def recover(self, stopping: Callable[[], bool]) -> None:
        """Get a producer whose transactions work; the broker has ended the old one's by then.

        Raises FatalError where this principal may not use the transactional id.
        """
        self._step = []
        while self._producer is None and not stopping():
            producer = None
            try:
                producer = self._make_producer()
                producer.init_transactions()
                self._producer = producer
            except AuthorizationError as error:
                raise _fatal(error) from error
            except KafkaError as error:
                _log.warning("no_transactions_yet", error=type(error).__name__)
                if producer is not None:
                    _close(producer)
                time.sleep(_PAUSE_SECONDS)

    def close(self, timeout_seconds: float) -> None:
        """What is not committed stays uncommitted, and is done again."""
        del timeout_seconds
        self._step = []
        self._give_up()

    def _give_up(self) -> None:
        if self._producer is not None:
            _close(self._producer)
        self._producer = None


class _Outcome:
    """What became of a transaction that runs on another thread."""

    error: BaseException | None = None


def _transact(producer: Any, step: list[Outgoing], metadata: ConsumerGroupMetadata, outcome: _Outcome) -> None:
    try:
        producer.begin_transaction()
        sent = [append(producer, outgoing.message) for outgoing in step if outgoing.message]
        offsets = {
            TopicPartition(outgoing.origin.topic, outgoing.origin.partition): OffsetAndMetadata(
                outgoing.origin.offset + 1, "", -1
            )
            for outgoing in step
        }
        producer.send_offsets_to_transaction(offsets, metadata)
        producer.commit_transaction()
        for future in sent:
            if not future.succeeded():
                raise future.exception or KafkaError("a record of a committed transaction was not acknowledged")
    except BaseException as error:  # noqa: BLE001  told to the thread that waits
        outcome.error = error


def _close(producer: KafkaProducer) -> None:
    """On a thread of its own: closing may wait for an answer that never comes."""
    threading.Thread(target=producer.close, kwargs={"timeout": _CLOSE_SECONDS}, daemon=True).start()


def _fatal(error: BaseException) -> FatalError:
    if isinstance(error, UnknownTopicIdError | UnknownTopicOrPartitionError):
        return FatalError("an output topic doesn't exist any more: run `adscore topics create`", exit_code=3)
    if isinstance(error, TOO_LARGE):  # the same step would fail the same way, for ever
        return FatalError(LOWERED, exit_code=1)
    return FatalError(
        f"no right to write ({type(error).__name__}): this principal needs Write on the output and dead-letter topics "
        "and on transactional ids with ADSCORE_KAFKA__TRANSACTIONAL_ID_PREFIX, and Read on the group",
        exit_code=3,
    )
