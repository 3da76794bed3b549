"""What `adscore score` writes beside its lines: overlays, and the HTML report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from worker.commands import figures
from worker.commands.inputs import Item
from worker.commands.pictures import Overlays, Pictures
from worker.errors import FatalError
from worker.report import Report, Table
from worker.settings import Settings


class Showing:
    """Takes every line of a run; writes overlays at once and the report at the end, where they are wanted."""

    def __init__(self, settings: Settings, overlay: Path | None, report: Path | None) -> None:
        self._overlays = Overlays(overlay) if overlay else None
        self._report = Report("adscore") if report else None
        self._path = report
        self._pictures = Pictures(settings)
        self._scored: list[Mapping[str, Any]] = []
        self._started = time.monotonic()
        if report and not report.resolve().parent.is_dir():
            raise FatalError(f"--report {report}: there is no folder {report.parent}", exit_code=2)

    def add(self, item: Item, event: Mapping[str, Any]) -> None:
        """Take one line."""
        if self._overlays is None and self._report is None:
            return
        good = event["status"] != "failed"
        image = self._pictures.of(item.creative) if good else None
        if good and self._overlays is not None:
            self._overlays.write(event, image)
        if self._report is not None:
            self._report.add(event, image)
            if good:
                # The figures need no more than this of an event, and there may be many.
                self._scored.append({"provenance": event["provenance"]})

    def finish(self) -> None:
        """Write the report. Raises FatalError where it can't be written."""
        if self._report is None or self._path is None:
            return
        seconds = time.monotonic() - self._started
        counts = Counter(card.status for card in self._report.cards)
        self._report.subtitle = f"{len(self._report.cards)} creatives · {datetime.now(UTC):%-d %B %Y, %H:%M} UTC"
        self._report.tiles = {
            "creatives": str(len(self._report.cards)),
            "scored": str(counts["scored"]),
            "partial": str(counts["partial"]),
            "failed": str(counts["failed"]),
            "from cache": str(sum(map(figures.from_cache, self._scored))),
            "creatives/s": f"{len(self._report.cards) / max(seconds, 1e-9):.1f}",
        }
        self._report.tables = [stage_table(self._scored)] if self._scored else []
        write_report(self._report, self._path)


def stage_table(events: list[Mapping[str, Any]]) -> Table:
    """Milliseconds per stage, as the events tell them."""
    rows = [
        (stage, f"{spent['count']:.0f}", *(f"{spent[f'p{p}']:.1f}" for p in figures.PERCENTILES))
        for stage, spent in figures.stage_milliseconds(events).items()
    ]
    return Table("Milliseconds per stage", ("stage", "creatives", "p50", "p95", "p99"), rows)


def write_report(report: Report, path: Path) -> None:
    """Write the page. Raises FatalError (exit status 1) where it can't be written."""
    try:
        path.write_text(report.html(), encoding="utf-8")
    except OSError as error:
        raise FatalError(f"{path}: {error.strerror}", exit_code=1) from None
    click.echo(f"wrote {path}", err=True)
