"""How many creatives a batch may hold after the engine ran out of memory: a pure state machine that is given `now`."""

from __future__ import annotations

HOLD_SECONDS = 60.0
"""How long batches stay smaller before a larger one is tried: what took the memory may be another process."""


class BatchCeiling:
    """`max_size` until memory runs out; then half of what failed, doubled again after each quiet `hold_seconds`."""

    def __init__(self, max_size: int, hold_seconds: float = HOLD_SECONDS) -> None:
        self._max_size = max_size
        self._hold = hold_seconds
        self._size = max_size
        self._raise_at = 0.0

    def size(self, now: float) -> int:
        """The largest batch now. `now` is a monotonic clock's reading in seconds."""
        while self._size < self._max_size and now >= self._raise_at:
            self._size = min(self._max_size, self._size * 2)
            self._raise_at += self._hold
        return self._size

    def exhausted(self, rows: int, now: float) -> int:
        """A batch of `rows` didn't fit; the size that holds from now on, never under 1."""
        self._size = min(self._size, max(1, rows // 2))
        self._raise_at = now + self._hold
        return self._size
