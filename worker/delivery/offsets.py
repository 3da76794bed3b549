"""Which offsets may be committed: a pure state machine, without clock, thread or broker.

Work finishes out of order; an offset may only be committed when every record received before it on its partition is
finished. Offsets aren't contiguous (transaction markers, compaction), so "everything before" is told by what was
received, never by arithmetic.
"""

from __future__ import annotations

from collections import deque


class PartitionOffsets:
    """The unfinished records of one assignment of one partition.

    A partition that is lost and comes back gets a new object: work of the old assignment still holds the old one, so
    it can't move the offsets of the new.
    """

    def __init__(self) -> None:
        self._received: deque[int] = deque()
        self._finished: set[int] = set()
        self._position: int | None = None
        self._committed: int | None = None
        self.began: int | None = None
        """The first offset that was received: what lies before it was committed when the assignment began."""

    @property
    def unfinished(self) -> int:
        """Records received and not finished."""
        return len(self._received) - len(self._finished)

    def received(self, offset: int) -> None:
        """A record was handed out by the consumer. Offsets only grow within one assignment."""
        if self._position is not None and offset < self._position:
            raise ValueError(f"offset {offset} was received after position {self._position}; seek needs a new tracker")
        if self.began is None:
            self.began = offset
        self._received.append(offset)
        self._position = offset + 1

    def advanced(self, position: int) -> None:
        """The consumer stands at `position`: all before it was received, or is a gap without records."""
        if self._position is None or position > self._position:
            self._position = position

    def finished(self, offset: int) -> None:
        """The record's output or dead letter is acknowledged (or it needs none)."""
        if offset in self._finished or not self._received or offset < self._received[0]:
            raise ValueError(f"offset {offset} is not unfinished")
        self._finished.add(offset)
        while self._received and self._received[0] in self._finished:
            self._finished.discard(self._received.popleft())

    def committable(self) -> int | None:
        """The offset to commit (the next one to read), or None when there is nothing new to commit."""
        target = self._received[0] if self._received else self._position
        return target if target is not None and target != self._committed else None

    def committed(self, offset: int) -> None:
        """The broker acknowledged a commit of `offset`."""
        self._committed = offset
