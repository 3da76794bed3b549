"""The memory of each creative's newest published revision: an older one never replaces a newer one's scores.

It lies in the process for the partitions it owns, and in Redis (`adscore:rev:<output topic>:<creative id>`), so that it
outlives the worker. Without Redis it ends with the process.

With at-least-once it is written after the acknowledgement (`published`). With exactly-once it is written before the
commit (`stage`, `store_staged`), together with the input's place and the predecessor that the last commit left: an
entry whose place is at or past the offset that was committed when the partition was assigned (or gone back to), and
that this worker did not commit since, belongs to a commit that never was.

A withdrawal leaves its place alone, so that the creative can come back with any revision, but not by a record that
repeats one from before the withdrawal (`adscore rescore` writes such).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import orjson

from worker.delivery.redis_link import RedisLink, RedisUnavailableError
from worker.types import Origin, Place

VERSION = 1


@dataclass(frozen=True)
class _Known:
    """The newest that was published of a creative, and by which record; `lastmod` None is a withdrawal."""

    lastmod: int | None
    place: Place


@dataclass(frozen=True)
class _Staged:
    """A change that counts once its transaction commits."""

    known: _Known
    previous: _Known | None


class Revisions:
    """Used by one thread (the delivery's)."""

    def __init__(self, link: RedisLink | None, *, output_topic: str, keep_seconds: int, max_creatives: int) -> None:
        self._link = link
        self._topic = output_topic
        self._keep_seconds = keep_seconds
        self._max = max_creatives
        self._known: OrderedDict[str, tuple[_Known, int]] = OrderedDict()  # with the partition that it was asked for
        self._staged: dict[str, _Staged] = {}
        self._unsure: dict[str, _Staged] = {}
        self._committed: dict[int, int] = {}  # partition → behind the last record that this worker committed

    def is_superseded(
        self, creative_id: str, lastmod: int, origin: Origin, repeats: Place | None = None, *, began: int | None = None
    ) -> bool:
        """Whether a newer revision of the creative is published already; an equal one is published again.

        repeats: the record that this one repeats, if any; then anything that came after that one supersedes it.
        began: the offset from which the partition is read since it was assigned or gone back to; None: this record's.
        """
        known = self._newest(creative_id, origin, began)
        if known is None:
            return False
        if known.lastmod is not None and known.lastmod > lastmod:
            return True
        return repeats is not None and repeats.is_before(known.place)

    def published(self, creative_id: str, lastmod: int | None, origin: Origin, *, doubtful: bool = False) -> None:
        """The revision (None: the withdrawal) is acknowledged on the output topic (at-least-once).

        doubtful: another worker may own the partition by now; what it wrote of later records stays.
        """
        known = _Known(lastmod, _place(origin))
        self._remember(creative_id, known, origin.partition)
        stored = self._stored(creative_id, known.place) if doubtful else None
        if stored is not None and known.place.is_before(stored.place):
            return
        self._write({creative_id: _Staged(known, None)}, transactional=False)

    def stage(self, creative_id: str, lastmod: int | None, origin: Origin, *, began: int | None = None) -> None:
        """The revision (None: the withdrawal) is part of the transaction under way (exactly-once)."""
        earlier = self._staged.get(creative_id)
        previous = earlier.previous if earlier else self._newest(creative_id, origin, began)
        known = _Known(lastmod, _place(origin))
        self._staged[creative_id] = _Staged(known, previous)
        self._remember(creative_id, known, origin.partition)

    def store_staged(self) -> None:
        """Write what is staged, right before its transaction commits."""
        self._write(self._staged, transactional=True)

    def committed(self) -> None:
        """The transaction has committed: what was staged counts."""
        for staged in self._staged.values():
            place = staged.known.place
            self._committed[place.partition] = max(self._committed.get(place.partition, 0), place.offset + 1)
        self._staged = {}

    def rolled_back(self) -> None:
        """The transaction came to nothing, or its answer was lost: where the partition is read again from tells."""
        for creative_id, staged in self._staged.items():
            self._known.pop(creative_id, None)
            self._unsure[creative_id] = staged
        self._staged = {}

    def disowned(self, partitions: Collection[int]) -> None:
        """Another worker moves these partitions' memory from now on."""
        for partition in partitions:
            self._committed.pop(partition, None)
        for creative_id in [name for name, (_, partition) in self._known.items() if partition in partitions]:
            del self._known[creative_id]
        for creative_id in [
            name for name, staged in self._staged.items() if staged.known.place.partition in partitions
        ]:
            del self._staged[creative_id]
        # The other worker's entry in Redis decides better than what this one can't be sure of.
        for creative_id in [
            name for name, staged in self._unsure.items() if staged.known.place.partition in partitions
        ]:
            del self._unsure[creative_id]

    def _newest(self, creative_id: str, origin: Origin, began: int | None) -> _Known | None:
        since = Place(origin.topic, origin.partition, origin.offset if began is None else began)
        if (unsure := self._unsure.pop(creative_id, None)) is not None:
            decided = unsure.known if unsure.known.place.is_before(since) else unsure.previous
            if decided is not None:
                self._remember(creative_id, decided, origin.partition)
            return decided
        if creative_id in self._known:
            return self._known[creative_id][0]
        if creative_id in self._staged:
            return self._staged[creative_id].known
        committed = max(since.offset, self._committed.get(origin.partition, 0))
        stored = self._stored(creative_id, replace(since, offset=committed))
        if stored is not None:
            self._remember(creative_id, stored, origin.partition)
        return stored

    def _remember(self, creative_id: str, known: _Known, partition: int) -> None:
        self._known[creative_id] = (known, partition)
        self._known.move_to_end(creative_id)
        if len(self._known) > self._max:
            self._known.popitem(last=False)

    def _write(self, changes: dict[str, _Staged], *, transactional: bool) -> None:
        if self._link is None or not changes:
            return

        def store(client: Any) -> None:
            with client.pipeline(transaction=False) as pipe:
                for creative_id, change in changes.items():
                    pipe.set(self._key(creative_id), _entry(change, transactional), ex=self._keep_seconds)
                pipe.execute()

        try:
            self._link.call(store)
        except RedisUnavailableError:
            return

    def _stored(self, creative_id: str, since: Place) -> _Known | None:
        """What Redis knows; of a transaction's entry at or past `since` the predecessor."""
        if self._link is None:
            return None
        try:
            value = self._link.call(lambda client: client.get(self._key(creative_id)))
            entry = orjson.loads(value) if value is not None else None
        except (RedisUnavailableError, orjson.JSONDecodeError):
            return None
        if not isinstance(entry, dict) or entry.get("v") != VERSION:
            return None
        place = _read_place(entry)
        undone = entry.get("transactional") is True and not place.is_before(since) and _beside(place, since)
        lastmod = entry.get("previous" if undone else "lastmod")
        if type(lastmod) is int and lastmod >= 0:
            # Which record the predecessor came by isn't kept: of this partition, and nothing is before it.
            return _Known(lastmod, replace(since, offset=-1) if undone else place)
        return None if undone or lastmod is not None else _Known(None, place)

    def _key(self, creative_id: str) -> str:
        return f"adscore:rev:{self._topic}:{creative_id}"


def _place(origin: Origin) -> Place:
    return Place(origin.topic, origin.partition, origin.offset)


def _beside(place: Place, other: Place) -> bool:
    return (place.topic, place.partition) == (other.topic, other.partition)


def _read_place(entry: dict[str, Any]) -> Place:
    """The entry's place; one that isn't whole is on no partition, and before and after nothing."""
    topic, partition, offset = entry.get("topic"), entry.get("partition"), entry.get("offset")
    whole = isinstance(topic, str) and type(partition) is int and type(offset) is int
    return Place(topic, partition, offset) if whole else Place("", -1, -1)  # type: ignore[arg-type]


def _entry(change: _Staged, transactional: bool) -> bytes:
    place = change.known.place
    previous = change.previous.lastmod if change.previous else None
    where = {"topic": place.topic, "partition": place.partition, "offset": place.offset}
    return orjson.dumps(
        {"v": VERSION, "lastmod": change.known.lastmod, "previous": previous, "transactional": transactional, **where}
    )
