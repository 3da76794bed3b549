"""How far a long verb is: a line that is written over on a terminal, and nothing elsewhere."""

from __future__ import annotations

import sys
import time

SECONDS = 0.2


class Progress:
    """Standard error, told by one thread."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._at = 0.0
        self._shown = False

    def show(self, text: str) -> None:
        """How far it is now."""
        now = time.monotonic()
        if self._terminal and now - self._at >= SECONDS:
            self._at = now
            self._shown = True
            self._write(f"\r{text}\x1b[K")

    def note(self, text: str) -> None:
        """A line that stays, on a terminal or not."""
        self.end()
        self._write(f"{text}\n")

    def end(self) -> None:
        """Take the line away."""
        if self._shown:
            self._write("\r\x1b[K")
        self._shown = False

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
