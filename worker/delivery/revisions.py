"""The memory of each creative's newest published revision: an older one never replaces a newer one's scores.

It lies in the process for the partitions it owns, and in Redis (`adscore:rev:<output topic>:<creative id>`), so that it
outlives the worker. Without Redis it ends with the process.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection

import orjson

from worker.delivery.redis_link import RedisLink, RedisUnavailableError
from worker.types import Origin

VERSION = 1


class Revisions:
    """Used by one thread (the delivery's)."""

    def __init__(self, link: RedisLink | None, *, output_topic: str, keep_seconds: int, max_creatives: int) -> None:
        self._link = link
        self._topic = output_topic
        self._keep_seconds = keep_seconds
        self._max = max_creatives
        self._known: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def is_superseded(self, creative_id: str, lastmod: int, partition: int) -> bool:
        """Whether a newer revision of the creative is published already; an equal one is published again."""
        known = self._known.get(creative_id)
        if known is None:
            stored = self._stored(creative_id)
            if stored is None:
                return False
            self._remember(creative_id, stored, partition)
            known = (stored, partition)
        return known[0] > lastmod

    def published(self, creative_id: str, lastmod: int, origin: Origin) -> None:
        """The revision is acknowledged on the output topic."""
        self._remember(creative_id, lastmod, origin.partition)
        if self._link is None:
            return
        value = orjson.dumps({"v": VERSION, "lastmod": lastmod, "partition": origin.partition, "offset": origin.offset})
        try:
            self._link.call(lambda client: client.set(self._key(creative_id), value, ex=self._keep_seconds))
        except RedisUnavailableError:
            return

    def withdrawn(self, creative_id: str) -> None:
        """Forget the creative, so that it can come back."""
        self._known.pop(creative_id, None)
        if self._link is None:
            return
        try:
            self._link.call(lambda client: client.delete(self._key(creative_id)))
        except RedisUnavailableError:
            return

    def disowned(self, partitions: Collection[int]) -> None:
        """Another worker moves these partitions' memory from now on."""
        for creative_id in [name for name, (_, partition) in self._known.items() if partition in partitions]:
            del self._known[creative_id]

    def _remember(self, creative_id: str, lastmod: int, partition: int) -> None:
        self._known[creative_id] = (lastmod, partition)
        self._known.move_to_end(creative_id)
        if len(self._known) > self._max:
            self._known.popitem(last=False)

    def _stored(self, creative_id: str) -> int | None:
        if self._link is None:
            return None
        try:
            value = self._link.call(lambda client: client.get(self._key(creative_id)))
            entry = orjson.loads(value) if value is not None else None
        except (RedisUnavailableError, orjson.JSONDecodeError):
            return None
        if not isinstance(entry, dict) or entry.get("v") != VERSION:
            return None
        lastmod = entry.get("lastmod")
        return lastmod if type(lastmod) is int and lastmod >= 0 else None

    def _key(self, creative_id: str) -> str:
        return f"adscore:rev:{self._topic}:{creative_id}"
