"""`adscore shadow`: what the candidate models say beside the live ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.commands import edge, kafka
from worker.commands.moment import MOMENT
from worker.errors import FatalError

if TYPE_CHECKING:
    from worker.commands.shadow_report import HeadReport, Report

FEW = 100
_COLUMNS = ("head", "creatives", "rank corr.", "PSI", "PSI deciles", "flips", "failed", "live → candidate")
_WIDTHS = (14, 9, 10, 8, 11, 8, 6, 1)


@click.group()
def shadow() -> None:
    """Compare the candidate models' scores with the live ones."""


@shadow.command()
@click.option("--since", "since_ms", metavar="DATE", type=MOMENT, help="Only what the candidate scored since DATE.")
@click.option(
    "--min-rank-correlation",
    type=click.FloatRange(-1, 1),
    default=0.8,
    show_default=True,
    help="Least Spearman correlation of the candidate's values with the live ones.",
)
@click.option(
    "--max-psi",
    type=click.FloatRange(min=0),
    default=0.2,
    show_default=True,
    help="Largest population stability index over the targeting buckets.",
)
@click.option(
    "--max-flip-rate",
    type=click.FloatRange(0, 1),
    default=0.25,
    show_default=True,
    help="Largest share of creatives that change their bucket.",
)
@click.option(
    "--max-failed",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Largest share of creatives that the candidate alone can't score.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def report(
    since_ms: int | None,
    min_rank_correlation: float,
    max_psi: float,
    max_flip_rate: float,
    max_failed: float,
    as_json: bool,
) -> int:
    """Compare what the candidate scored with the live scores of the same creatives and revisions.

    Reads the shadow and the output topic as they stand, and takes the candidate that scored last. Exit status 1 if a
    head is over a limit (marked with *), 3 if there is nothing to compare.
    """
    from worker.commands import shadow_report

    settings = edge.settings()
    limits = shadow_report.Limits(min_rank_correlation, max_psi, max_flip_rate, max_failed)
    with kafka.reached(settings.kafka):
        found = shadow_report.report(settings, limits, since_ms)
    if not found.heads:
        raise FatalError(_nothing(found, settings.kafka.shadow_topic), exit_code=edge.UNAVAILABLE)
    click.echo(found.as_json() if as_json else table(found))
    if found.creatives < FEW:
        click.echo(f"only {found.creatives} creatives: let the candidate score more before you rely on this", err=True)
    return edge.FAILED if found.over else 0


def table(found: Report) -> str:
    """For people."""
    lines = [_line(_COLUMNS), *(_line(_cells(head, one)) for head, one in found.heads.items())]
    limits = found.limits
    lines.append("")
    lines.append(
        f"limits: rank correlation ≥ {limits.min_rank_correlation:g}, PSI ≤ {limits.max_psi:g}, "
        f"flips ≤ {limits.max_flip_rate:.0%}, failed ≤ {limits.max_failed:.0%}; "
        f"{'over (*)' if found.over else 'within all'}"
    )
    unmatched = (
        f"; {found.unmatched} of the candidate's have no live event of their revision" if found.unmatched else ""
    )
    lines.append(f"{found.creatives} creatives of candidate {found.candidate}{unmatched}")
    return "\n".join(lines)


def _cells(head: str, one: HeadReport) -> tuple[str, ...]:
    def shown(value: float | None, name: str, form: str = ".3f") -> str:
        return ("–" if value is None else format(value, form)) + ("*" if name in one.over else "")

    return (
        head,
        str(one.creatives),
        shown(one.rank_correlation, "rank_correlation"),
        shown(one.psi, "psi"),
        shown(one.psi_deciles, ""),
        shown(one.flip_rate, "flip_rate", ".1%"),
        shown(one.failed, "failed", "d"),
        f"{', '.join(one.live)} → {', '.join(one.candidate)}",
    )


def _line(cells: tuple[str, ...]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _nothing(found: Report, topic: str) -> str:
    if found.candidate is None:
        return f"{topic} holds no candidate's event: name candidates in ADSCORE_SHADOW__… and let the workers run"
    return (
        f"none of what candidate {found.candidate} scored has a live event of the same revision by another model: "
        "let the workers run, or is the candidate live already?"
    )
