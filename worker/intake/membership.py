"""What a member of a group needs beside kafka-python's `poll`: joins that end, fetches that go on, a word of the group.

Written against kafka-python 3.0.12, whose own names with an underscore are used here and nowhere else but in
`source.py`; `tests/faults` plays on a real cluster what they mend.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from kafka import KafkaConsumer
from kafka.errors import KafkaConnectionError
from kafka.future import Future
from kafka.structs import MemberState

REJOIN_SESSIONS = 2
"""After so many sessions a join that isn't answered is asked for again."""
_SOON_SECONDS = 0.005
_log = structlog.get_logger(__name__)


class Membership:
    """Of one consumer; used by the thread that polls, but for `confirmed`, which any thread may ask for."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._session_seconds = consumer.config["session_timeout_ms"] / 1000
        self._generation: int | None = None
        self._joined_at = self._joining_since = 0.0

    def joins(self) -> bool:
        """Before a poll: whether it has to join the group."""
        coordinator = self._consumer._coordinator
        if coordinator.state == MemberState.REBALANCING and not coordinator.need_rejoin():
            # The reason went away while the join was under way (metadata that changed and changed back). kafka-python
            # would neither end the join nor send heartbeats again, and never hear that the group went on without it.
            _log.warning("join_goes_on")
            coordinator.request_rejoin()
        if not coordinator.need_rejoin():
            self._joining_since = 0.0
            return False
        self._soon(self._keep_join)
        now = time.monotonic()
        self._joining_since = self._joining_since or now
        if now - self._joining_since > REJOIN_SESSIONS * self._session_seconds:
            # kafka-python waits for the answer for over five minutes, also of a coordinator that hangs or is another
            # by now. To ask again does no harm.
            _log.warning("joins_anew")
            self._joining_since = now
            self._soon(self._give_join_up)
        return True

    def unpark(self) -> None:
        """Before a poll: let records that were set aside while their partition was paused come forward again.

        kafka-python looks at them only while it has no batch in hand, and keeps one that it has used up in hand until
        the next arrives: with nothing more to come, what was set aside would wait for ever.
        """
        fetcher = self._consumer._fetcher
        if not fetcher._next_partition_records:  # the thread that polls owns it
            fetcher._next_partition_records = None

    def polled(self) -> None:
        """After a poll."""
        generation = self._consumer.group_metadata().generation_id
        if generation != self._generation:
            self._generation, self._joined_at = generation, time.monotonic()

    def poll_failed(self) -> None:
        """After a poll that found a connection ended.

        A request to fetch that fails while it is sent leaves its broker marked as busy for ever in kafka-python, and
        its partitions stand still. To fetch twice does no harm.
        """
        self._soon(self._forget_fetches)

    @property
    def confirmed(self) -> bool:
        """Whether the group has confirmed this member within its session. If not, another may own its partitions."""
        coordinator = self._consumer._coordinator
        if coordinator.state == MemberState.REBALANCING:
            return True  # until the group has settled nobody else has them
        if coordinator.state != MemberState.STABLE:
            return False
        last = max(coordinator.heartbeat.last_receive, self._joined_at)
        return bool(time.monotonic() - last <= self._session_seconds)

    def _keep_join(self) -> None:
        """kafka-python forgets a join that succeeded between two polls, and has the whole group join once more; on a
        loaded machine that goes on for long. Give it back as one that is about to succeed."""
        coordinator = self._consumer._coordinator
        joined = coordinator._join_task
        if joined is None or not joined.succeeded():
            return
        again = Future()
        coordinator._join_task = again
        self._consumer._net.call_later(_SOON_SECONDS, lambda: again.success(joined.value))

    def _forget_fetches(self) -> None:
        self._consumer._fetcher._nodes_with_pending_fetch_requests.clear()

    def _give_join_up(self) -> None:
        coordinator = self._consumer._coordinator
        connection = self._consumer._manager._conns.get(coordinator.coordinator_id)
        coordinator._join_task = None
        coordinator.coordinator_dead("it doesn't answer the request to join")
        if connection is not None:
            connection.close(KafkaConnectionError("the request to join is given up"))

    def _soon(self, callback: Callable[[], None]) -> None:
        """On the consumer's network thread, which owns all of this. Takes methods and functions, no builtins."""
        self._consumer._net.call_soon_threadsafe(callback)
