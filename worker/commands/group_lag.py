"""How far a consumer group is behind on the input topic, asked from outside the group."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kafka.errors import GroupIdNotFoundError, KafkaError

from worker.commands import reading

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer

COORDINATOR_SECONDS = 15.0
PAUSE_SECONDS = 0.2


class GroupLag:
    """Committed offsets against the topic's ends. Raises KafkaError; FatalError (3) when there is no such topic."""

    def __init__(self, admin: KafkaAdminClient, client: KafkaConsumer, topic: str, group_id: str) -> None:
        self._admin, self._client, self._group = admin, client, group_id
        first, _ = reading.span(client, topic)
        self._parts = list(first)

    def records(self) -> int:
        """Records that the group has not finished. Where it committed nothing yet: all that the topic holds."""
        committed = self._committed()
        begin, end = self._client.beginning_offsets(self._parts), self._client.end_offsets(self._parts)
        return sum(max(0, end[part] - max(begin[part], committed.get(part.partition, 0))) for part in self._parts)

    def finished(self, offsets: Mapping[int, int]) -> bool:
        """Whether the group has finished each of these partitions up to and with the offset."""
        committed = self._committed()
        return all(committed.get(partition, -1) > offset for partition, offset in offsets.items())

    def members(self) -> int:
        """Workers in the group now."""
        try:
            described = patiently(lambda: self._admin.describe_groups([self._group]))
        except GroupIdNotFoundError:
            return 0
        return len(described[self._group]["members"])

    def _committed(self) -> dict[int, int]:
        try:
            found = patiently(lambda: self._admin.list_group_offsets({self._group: self._parts}))
        except GroupIdNotFoundError:
            return {}
        return {part.partition: offset.offset for part, offset in found[self._group].items() if offset.offset >= 0}


def patiently(ask: Callable[[], Any]) -> Any:
    """Coordinators move, and a new cluster has none before it is first asked for one."""
    deadline = time.monotonic() + COORDINATOR_SECONDS
    while True:
        try:
            return ask()
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_SECONDS)
