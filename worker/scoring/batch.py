"""Group creatives into engine batches by size and delay: a pure state machine that is given `now`."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """A batch is due when `max_size` items wait, or when the oldest has waited `max_delay_seconds`.

    Order is kept: a batch is always the oldest items.
    """

    def __init__(self, max_size: int, max_delay_seconds: float) -> None:
        self.max_size = max_size
        """Creatives in one batch; may change at any time."""
        self._max_delay = max_delay_seconds
        self._waiting: deque[tuple[float, Item]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: Item, now: float) -> None:
        """`now` is a monotonic clock's reading in seconds."""
        self._waiting.append((now, item))

    def due_in(self, now: float) -> float | None:
        """Seconds until a batch is due: 0 when one is, None when nothing waits."""
        if not self._waiting:
            return None
        if len(self._waiting) >= self.max_size:
            return 0.0
        return max(0.0, self._waiting[0][0] + self._max_delay - now)

    def take(self, now: float) -> list[Item]:
        """The batch that is due, or an empty list."""
        if self.due_in(now) != 0.0:
            return []
        return [self._waiting.popleft()[1] for _ in range(min(self.max_size, len(self._waiting)))]
