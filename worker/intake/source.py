"""The consumer: records in, offsets out, and partitions that come and go.

kafka-python runs rebalance listeners on its network thread. Ours only notes what happened and waits without blocking
that thread; the pipeline's own loop does the rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.errors import (
    CoordinatorNotAvailableError,
    KafkaError,
    RetriableError,
    UnknownBrokerIdError,
)
from kafka.future import Future
from kafka.structs import MemberState, OffsetAndMetadata

from worker.intake.membership import Membership
from worker.types import Origin, Record

REJOIN_POLL_MS = 100
HANDOVER_COMMIT_MS = 5_000
_PAUSE_SECONDS = 0.1
_AWAY = (RetriableError, UnknownBrokerIdError)
_log = structlog.get_logger(__name__)


class Ownership(AsyncConsumerRebalanceListener):
    """Tells the pipeline which partitions it owns, and holds a hand-over until it has drained them.

    Args:
        assigned: partitions that are new.
        drain: partitions that are to be handed over, and a function to call (on any thread) once they are drained.
        committable: the offsets to commit for drained partitions.
        lost: partitions that are handed over: drop what is still held of them.
        evicted: partitions that another worker may have already.
    """

    def __init__(
        self,
        assigned: Callable[[set[int]], None],
        drain: Callable[[set[int], Callable[[], None]], None],
        committable: Callable[[set[int]], Mapping[int, int]],
        lost: Callable[[set[int]], None],
        evicted: Callable[[set[int]], None],
    ) -> None:
        self._assigned, self._drain, self._committable = assigned, drain, committable
        self._lost, self._evicted = lost, evicted
        self._source: Source | None = None

    def bind(self, source: Source) -> None:
        """The source whose commits hand partitions over."""
        self._source = source

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """New partitions: their positions come from the group's committed offsets."""
        if assigned:
            self._assigned({place.partition for place in assigned})

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Hand over: wait until what is in flight is finished, then commit it, while heartbeats go on."""
        partitions = {place.partition for place in revoked}
        if not partitions or self._source is None:
            return
        drained = Future()
        self._drain(partitions, lambda: self._wake(drained))
        await drained
        offsets = self._committable(partitions)
        try:
            if offsets:
                await self._source.hand_over(offsets)
        except KafkaError as error:
            _log.warning("handover_commit_failed", error=type(error).__name__)
        self._lost(partitions)

    def _wake(self, drained: Future) -> None:
        if self._source is not None:
            self._source.on_network_thread(lambda: drained.success(None))

    async def on_partitions_lost(self, lost: Any) -> None:
        """The group has gone on without this worker."""
        partitions = {place.partition for place in lost}
        if partitions:
            self._evicted(partitions)


class Source:
    """A group member on one topic. Used by the pipeline's loop alone, but for `hand_over`."""

    def __init__(self, consumer: KafkaConsumer, topic: str, ownership: Ownership) -> None:
        self._consumer = consumer
        self._topic = topic
        ownership.bind(self)
        # Joining before the partitions are known gives the group's leader none to assign, and nobody asks again for
        # minutes.
        consumer.partitions_for_topic(topic)
        consumer.subscribe([topic], listener=ownership)
        self._membership = Membership(consumer)

    def poll(self, timeout_ms: int, max_records: int) -> list[Record]:
        """Received records, in order per partition. Also drives the group's membership: call it often.

        Brokers that are away or out of reach are waited for: then nothing is received.
        """
        if self._membership.joins():
            # A poll without time to spare never joins again, and a full pipeline polls like that.
            timeout_ms = max(timeout_ms, REJOIN_POLL_MS)
        self._membership.unpark()
        try:
            polled = self._consumer.poll(timeout_ms=timeout_ms, max_records=max_records)
        except _AWAY as error:
            _log.warning("poll_failed", error=type(error).__name__)
            self._membership.poll_failed()
            time.sleep(_PAUSE_SECONDS)
            return []
        self._membership.polled()
        return [
            Record(
                Origin(message.topic, message.partition, message.offset, message.timestamp),
                message.key,
                message.value,
                tuple((name, content) for name, content in message.headers),
            )
            for messages in polled.values()
            for message in messages
        ]

    @property
    def is_member(self) -> bool:
        """Whether the group has confirmed this member within its session. If not, another may own its partitions."""
        return self._membership.confirmed

    def position(self, partition: int) -> int | None:
        """The next offset to be received; None where the partition isn't owned any more."""
        place = TopicPartition(self._topic, partition)
        if place not in self._consumer.assignment():
            return None
        try:
            return self._consumer.position(place, timeout_ms=0)
        except KafkaError:
            return None

    def rewind(self, partition: int) -> None:
        """Go back to the committed offset: nothing received since then counts."""
        place = TopicPartition(self._topic, partition)
        committed = self._consumer.committed(place, timeout_ms=5_000)
        if committed is None:
            self._consumer.seek_to_beginning(place)
        else:
            self._consumer.seek(place, committed)

    def seek(self, partition: int, offset: int) -> None:
        """Receive from `offset` on."""
        place = TopicPartition(self._topic, partition)
        if place in self._consumer.assignment():
            self._consumer.seek(place, offset)

    def commit(self, offsets: Mapping[int, int], done: Callable[[Exception | None], None]) -> None:
        """Commit without waiting; `done` is called from a later `poll` or `commit`, or at once where that can't be."""
        if self._consumer._coordinator.coordinator_unknown():
            # kafka-python would keep it until the coordinator is found: by then the partitions may be another's.
            done(CoordinatorNotAvailableError())
            return
        self._consumer.commit_async(
            self._offsets(offsets),
            callback=lambda _, response: done(response if isinstance(response, Exception) else None),
        )

    async def hand_over(self, offsets: Mapping[int, int]) -> None:
        """Commit before the partitions go, on the network thread; tried again while the coordinator moves or is away.

        Raises KafkaError. What isn't committed the next owner does again.
        """
        # Of all ways to commit, the public ones either wait (not allowed on this thread) or try once.
        await self._consumer._coordinator._commit_offsets_sync_async(
            self._offsets(offsets), timeout_ms=HANDOVER_COMMIT_MS
        )

    def on_network_thread(self, callback: Callable[[], None]) -> None:
        """Run a callback on the consumer's network thread soon. kafka-python has no public call for it."""
        self._consumer._net.call_soon_threadsafe(callback)

    def commit_and_wait(self, offsets: Mapping[int, int], timeout_ms: int) -> None:
        """Commit and wait. Raises KafkaError."""
        self._consumer.commit(self._offsets(offsets), timeout_ms=timeout_ms)

    def pause(self) -> None:
        """Receive nothing until `resume`; membership goes on."""
        self._consumer.pause(*self._consumer.assignment())

    def resume(self) -> None:
        """Receive again."""
        self._consumer.resume(*self._consumer.paused())

    @property
    def joined(self) -> bool:
        """Whether this member has its partitions and the coordinator answers."""
        # No public call tells whether the coordinator answers; the state alone stays "stable" while it is away.
        known = not self._consumer._coordinator.coordinator_unknown()
        return bool(known and self._consumer.group_metadata().state == MemberState.STABLE)

    def lag(self) -> dict[int, int]:
        """Per owned partition how many records lie before the high water mark."""
        lags = {}
        for place in self._consumer.assignment():
            highwater, position = self._consumer.highwater(place), self.position(place.partition)
            if highwater is not None and position is not None:
                lags[place.partition] = max(0, highwater - position)
        return lags

    def close(self, timeout_ms: int) -> None:
        """Leave the group; brokers that are away find out by themselves."""

        def close() -> None:
            with suppress(KafkaError):  # it would hide the reason of the end
                self._consumer.close(autocommit=False, timeout_ms=timeout_ms)

        # With a broker that hangs, kafka-python waits longer than it was told: it is left to itself then.
        closing = threading.Thread(target=close, name="leave", daemon=True)
        closing.start()
        closing.join(timeout_ms / 1000)

    def _offsets(self, offsets: Mapping[int, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {
            TopicPartition(self._topic, partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in offsets.items()
        }
