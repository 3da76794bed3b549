"""When a piece of work has run for too long: a pure state machine that is told what it sees, and when."""

from __future__ import annotations


class Watchdog:
    """Adds up the time in which one and the same piece of work was seen running.

    A look counts for at most twice its interval: a process that was stopped for an hour, or a machine that slept, has
    not worked for an hour.
    """

    def __init__(self, limit_seconds: float, interval_seconds: float) -> None:
        self._limit = limit_seconds
        self._most = 2 * interval_seconds
        self._work: int | None = None
        self._looked_at = 0.0
        self._seconds = 0.0

    def sees(self, work: int | None, now: float) -> bool:
        """Whether `work` (its number, None for none) has run too long. `now` is a monotonic clock's reading."""
        if work is None or work != self._work:
            self._work, self._seconds = work, 0.0
        else:
            self._seconds += min(now - self._looked_at, self._most)
        self._looked_at = now
        return self._seconds >= self._limit
