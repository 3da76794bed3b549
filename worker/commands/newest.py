"""The newest event of every creative on the output topic, and where its input record lies; 21 bytes a creative.

Creatives are known by 64 bits of a hash of their id: of ten million, two share one once in several hundred thousand
runs, and then one of the two is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OFFSET_BITS = 48
_OFFSET_MASK = (1 << OFFSET_BITS) - 1
MAX_PARTITIONS = 1 << (63 - OFFSET_BITS)

Packed = int
"""Input partition and offset in one number, so that sorting numbers sorts places."""


def packed(partition: int, offset: int) -> Packed | None:
    """None where no topic has such a place."""
    fits = 0 <= partition < MAX_PARTITIONS and 0 <= offset <= _OFFSET_MASK
    return partition << OFFSET_BITS | offset if fits else None


def identity(key: bytes) -> int:
    """64 bits that stand for a creative."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


@dataclass(frozen=True)
class Seen:
    """One record of the output topic: the creative, and the place of its input record where it is to be scored again.

    place None: whatever was chosen of this creative before, it is not any more.
    """

    creative: int
    place: Packed | None


class Newest:
    """Which creatives are to be scored again, by the places of their input records.

    Built from one partition of the output topic after the other (all events of a creative lie on one), read from the
    start; then `forget` takes out what has changed since.
    """

    def __init__(self, partitions: Iterable[Iterable[Seen]]) -> None:
        creatives, places = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
        for partition in partitions:
            chosen: dict[int, Packed] = {}
            for seen in partition:
                if seen.place is None:
                    chosen.pop(seen.creative, None)
                else:
                    chosen[seen.creative] = seen.place
            creatives.append(np.fromiter(chosen.keys(), np.uint64, len(chosen)))
            places.append(np.fromiter(chosen.values(), np.uint64, len(chosen)))
        found = np.concatenate(creatives)
        order = np.argsort(found)
        self._creatives: NDArray[np.uint64] = found[order]
        self._places: NDArray[np.uint64] = np.concatenate(places)[order]
        self._by_place: NDArray[np.uint32] = np.argsort(self._places).astype(np.uint32)
        self._gone: NDArray[np.bool_] = np.zeros(len(found), dtype=bool)

    def __len__(self) -> int:
        return len(self._creatives)

    def forget(self, creative: int) -> None:
        """Something newer of the creative was published, or it was withdrawn."""
        row = int(np.searchsorted(self._creatives, np.uint64(creative)))
        if row < len(self._creatives) and self._creatives[row] == creative:
            self._gone[row] = True

    def partitions(self) -> list[int]:
        """The input partitions that hold what was chosen."""
        return [int(partition) for partition in np.unique(self._places >> np.uint64(OFFSET_BITS))]

    def within(self, partition: int) -> Iterator[Chosen]:
        """What lies on one input partition, in the order of its offsets."""
        edges = [number << OFFSET_BITS for number in (partition, partition + 1)]
        begin, end = np.searchsorted(self._places, np.array(edges, np.uint64), sorter=self._by_place)
        for row in self._by_place[begin:end]:
            yield Chosen(int(row), int(self._places[row]) & _OFFSET_MASK)

    def is_gone(self, chosen: Chosen) -> bool:
        """Whether it was forgotten."""
        return bool(self._gone[chosen.row])

    def is_of(self, chosen: Chosen, creative_id: str) -> bool:
        """Whether this is the creative that was chosen."""
        return int(self._creatives[chosen.row]) == identity(creative_id.encode())


@dataclass(frozen=True, slots=True)
class Chosen:
    """One creative to score again: its row, and the offset of its input record."""

    row: int
    offset: int
