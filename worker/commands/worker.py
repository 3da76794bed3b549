"""`adscore worker`: consume, score, cache, publish, commit, until stopped."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from worker.commands import edge


@click.command("worker")
@click.option("--max-messages", type=click.IntRange(min=1), help="Stop after N received records, all finished.")
@click.option("--until-idle", type=click.FloatRange(min=0), metavar="SECONDS", help="Stop after so long without work.")
@click.option("--dry-run", is_flag=True, help="Print what would be published; publish, commit and cache nothing.")
def worker(max_messages: int | None, until_idle: float | None, dry_run: bool) -> int:
    """Consume, score, cache and publish, until stopped.

    SIGTERM drains and ends with 0, SIGINT drains and ends with 130; a second signal ends at once.
    """
    with signals() as noted:  # before the slow imports: a stop while it starts is a clean one too
        # Imported here so that `--help` needs none of it.
        from worker.commands.dry_run import dry_run as run_dry
        from worker.commands.serve import serve

        settings = edge.settings()
        run = run_dry if dry_run else serve
        return run(settings, noted, max_messages=max_messages, until_idle=until_idle)


class Signals:
    """What the process was told. The first SIGTERM or SIGINT stops, a second ends at once."""

    def __init__(self) -> None:
        self.status = 0
        self._told_at: float | None = None
        self._stop: Any = lambda: None

    def on_stop(self, stop: Any) -> None:
        """What to call on the first signal; at once, if it came already."""
        self._stop = stop
        if self._told_at is not None:
            stop()

    def left(self, seconds: float) -> float:
        """What is left of so many seconds from the first signal on; all of them where none came."""
        return seconds if self._told_at is None else self._told_at + seconds - time.monotonic()

    def handle(self, number: int, _frame: Any) -> None:
        """The handler."""
        if self._told_at is not None:
            os._exit(edge.INTERRUPTED)
        self._told_at = time.monotonic()
        self.status = edge.INTERRUPTED if number == signal.SIGINT else 0
        self._stop()


@contextmanager
def signals() -> Iterator[Signals]:
    """SIGTERM and SIGINT are noted instead of interrupting; the old handlers come back at the end."""
    noted = Signals()
    before = {number: signal.signal(number, noted.handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def worker_name(configured: str) -> str:
    """The setting, or host name and process id."""
    return configured or f"{socket.gethostname()}-{os.getpid()}"
