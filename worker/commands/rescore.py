"""`adscore rescore`: have the workers score again what an older model version scored."""

from __future__ import annotations

import click

from worker.commands import edge, kafka
from worker.commands.moment import MOMENT


@click.command()
@click.option(
    "--since",
    "since_ms",
    metavar="DATE",
    type=MOMENT,
    help="Only what was published at or after DATE (2026-11-01, or with a time; UTC unless it says otherwise). "
    "Without --stale: whichever models scored it.",
)
@click.option(
    "--stale", is_flag=True, help="Only what other bundles scored than the settings name now. The default without DATE."
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most so many per second.")
@click.option(
    "--max-lag",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Wait while the workers are this many records behind, live and rescored ones together.",
)
@click.option("--resume", is_flag=True, help="Go on where the last run was ended early, with its --since and --stale.")
@click.option("--dry-run", is_flag=True, help="List what would be scored again, a JSON line each, and do nothing.")
def rescore(since_ms: int | None, stale: bool, rate: float | None, max_lag: int, resume: bool, dry_run: bool) -> None:
    """Score again what an older model version scored, behind live traffic.

    Puts the input record of each creative's newest event back on the input topic, where the workers score it like any
    other, and waits for them. Newer revisions win, withdrawn creatives stay withdrawn, and what the cache knows isn't
    scored again. Records that have expired from the input topic are counted and make the exit status 1.
    """
    from worker.commands import rescoring

    wanted = rescoring.Wanted(since_ms, stale or since_ms is None, rate, max_lag)
    with kafka.reached(edge.settings().kafka):
        counts = rescoring.rescore(edge.settings(), wanted, resume=resume, dry_run=dry_run)
    click.echo(counts.told("would be sent" if dry_run else "sent"), err=True)
    if counts.expired or counts.failed:
        raise click.exceptions.Exit(edge.FAILED)
