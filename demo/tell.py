"""What the demonstration leaves behind: a table, `summary.json`, and the report's page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from demo.account import Account, Place
from worker.commands import figures, present
from worker.commands.inputs import items
from worker.commands.pictures import Pictures
from worker.commands.showing import stage_table, write_report
from worker.report import Report, Table
from worker.settings import Settings
from worker.types import Creative

SHOWN = 40


@dataclass(frozen=True)
class Run:
    """superseded: as the worker counted; peak_mib: resident memory of the worker and its children, each at its peak."""

    superseded: int
    peak_mib: float
    cores: int


def print_run(account: Account, summary: Mapping[str, int], run: Run) -> None:
    """Scores, then figures, on standard output."""
    print(present.header())
    events = [account.events[place] for place in sorted(account.events)]
    for event in events[:SHOWN]:
        print(present.row(event))
    if len(events) > SHOWN:
        print(f"… and {len(events) - SHOWN} more, all of them in the report")
    print()
    for code, count in sorted(Counter(str(letter["code"]) for letter in account.dead_letters.values()).items()):
        print(f"{code:<20} {count:>4}  dead letters")
    print()
    print("  ".join(f"{name.replace('_', ' ')} {count}" for name, count in summary.items()))
    speed = f"{account.seconds:.1f} s, {account.rate:.1f} records/s on {run.cores} cores"
    print(f"{speed}, worker's peak memory {run.peak_mib:.0f} MiB")
    print(f"{'milliseconds':<14}{'creatives':>10}{'p50':>10}{'p95':>10}{'p99':>10}")
    for stage, spent in figures.stage_milliseconds(events).items():
        print(f"{stage:<14}{spent['count']:>10}{spent['p50']:>10.1f}{spent['p95']:>10.1f}{spent['p99']:>10.1f}")


def write_summary(path: Path, summary: Mapping[str, int], run: Run, account: Account) -> None:
    """`summary.json`: the figures that other programs read, and how long it took."""
    told = dict(summary) | {
        "seconds": account.seconds,
        "records_per_second": round(account.rate, 2),
        "peak_mib": round(run.peak_mib),
        "cores": run.cores,
        "stage_milliseconds": figures.stage_milliseconds(account.events.values()),
        "dead_letter_codes": dict(Counter(str(letter["code"]) for letter in account.dead_letters.values())),
    }
    path.write_text(json.dumps(told, indent=2) + "\n")


def write_page(
    path: Path, account: Account, summary: Mapping[str, int], run: Run, source: str, settings: Settings
) -> None:
    """`report.html`. source: what was published, from which the pictures are taken again."""
    when = f"{datetime.now(UTC):%-d %B %Y, %H:%M} UTC"
    report = Report("adscore demo", f"{when} · Kafka to Kafka in {account.seconds:.1f} s on {run.cores} cores")
    tiles = {name.replace("_", " "): str(count) for name, count in summary.items()}
    report.tiles = tiles | {"records/s": f"{account.rate:.1f}"}
    report.tables = [stage_table(list(account.events.values())), _codes(account)]
    creatives: dict[tuple[str, int] | str, Creative] = {}
    for item in items([source], copy={}, lang=None, max_bytes=settings.fetch.max_bytes):
        if item.creative is not None:
            creatives[item.creative.creative_id] = item.creative
            creatives[item.creative.creative_id, item.creative.lastmod] = item.creative
    pictures = Pictures(settings)
    for place, creative_id in sorted(account.published.items(), key=lambda entry: _rank(account, *entry)):
        if place in account.events:
            event = account.events[place]
            creative = creatives.get((creative_id, event["lastmod"])) or creatives.get(creative_id)
            report.add(event, pictures.of(creative))
        elif place in account.dead_letters:
            letter = account.dead_letters[place]
            reason = {"code": letter["code"], "message": letter["message"]}
            report.add({"creative_id": creative_id, "errors": [reason]}, None, status="dead_letter")
        else:
            status = "withdrawn" if place in account.withdrawn else "superseded" if run.superseded else "missing"
            report.add({"creative_id": creative_id}, None, status=status)
    write_report(report, path)


def _rank(account: Account, place: Place, creative_id: str) -> tuple[int, str, Place]:
    """What was scored comes first, what was refused last; each by name."""
    return (0 if place in account.events else 2 if place in account.dead_letters else 1), creative_id, place


def _codes(account: Account) -> Table:
    counts = Counter(str(letter["code"]) for letter in account.dead_letters.values())
    return Table("Dead letters", ("code", "records"), [(code, str(count)) for code, count in sorted(counts.items())])
