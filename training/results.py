"""The tables of docs/results, made from comparison.json: no figure in those pages is typed by hand.

python -m training.results tables runs/compare/posters [MORE…]
python -m training.results quick --data ../shared/data --out runs/quick
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from training import config as configuration
from training.compare import OUTCOME, Plan, compare
from training.datasets.sample import BadRows
from training.variants import ablated, compared

CONFIGS = Path(configuration.__file__).parent / "configs"
COMPARED = (
    "adfusion-movie_posters", "fgmfn-mm_tweet_sentiment", "mvla-mm_tweet_sentiment", "deepm2ad-pitt_ads_text",
    "dbafn-website_aesthetics", "dbafn-saliency_osie", "dbafn-saliency_designs", "adfusion-upworthy_ctr",
)  # fmt: skip
ABLATED = ("adfusion-movie_posters", "fgmfn-mm_tweet_sentiment", "deepm2ad-pitt_ads_text", "dbafn-website_aesthetics")
# On so few rows not every genre is in the tuning part.
QUICK_ROWS, QUICK_EPOCHS, QUICK_RESAMPLES = 400, 2, 100
_QUICK_MONITOR = {"movie_posters": "map"}
_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group()
def cli() -> None:
    """Make the tables of docs/results."""


@cli.command()
@click.argument("folders", type=_FOLDER, nargs=-1, required=True)
def tables(folders: tuple[Path, ...]) -> None:
    """Print a Markdown table for every folder that compare or ablate wrote."""
    for folder in folders:
        click.echo(markdown(json.loads((folder / OUTCOME).read_text(encoding="utf-8"))))


@cli.command()
@click.option("--data", type=_FOLDER, required=True, help="The folder that holds the data sets.")
@click.option("--out", type=_FOLDER, required=True)
def quick(data: Path, out: Path) -> None:
    """A small version of every table: few rows, one seed, two epochs. Its figures say that all of it runs, no more."""
    start = time.monotonic()
    for kind, names in (("compare", COMPARED), ("ablate", ABLATED)):
        for name in names:
            config = _small(configuration.load(CONFIGS / f"{name}.toml"))
            variants = compared(config) if kind == "compare" else ablated(config)
            folder = out / f"{kind}-{name}"
            metric = config.fit.monitor or ""
            plan = Plan(variants, data / config.dataset, folder, 1, QUICK_RESAMPLES, metric)
            click.echo(markdown(compare(plan, lambda line: click.echo(line, err=True), BadRows())))
    click.echo(f"{time.monotonic() - start:.0f} s in all", err=True)


def markdown(outcome: Mapping[str, Any]) -> str:
    """One row per variant: the compared metric with its interval, the first one's gain over it, its size."""
    rows, metric = sum(outcome["rows"]), outcome["metric"]
    lines = [
        f"`{metric}` on `{outcome['dataset']}`: {outcome['seeds']} seed(s), {rows} validation rows in all.",
        "",
        f"| | {metric} | 95 % | {outcome['model']} − this | 95 % | parameters |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in outcome["variants"].items():
        gap = outcome["differences"].get(name)
        told = f"{gap['value']:+.4f} | [{gap['low']:+.4f}, {gap['high']:+.4f}]" if gap else " | "
        interval = f"{found['value']:.4f} | [{found['low']:.4f}, {found['high']:.4f}]"
        lines.append(f"| {name} | {interval} | {told} | {found['parameters']:,} |")
    return "\n".join(lines) + "\n"


def _small(config: configuration.Config) -> configuration.Config:
    monitor = _QUICK_MONITOR.get(config.dataset, config.fit.monitor)
    fit = config.fit.model_copy(update={"epochs": QUICK_EPOCHS, "warmup_steps": 0, "monitor": monitor})
    data = config.data.model_copy(update={"limit": QUICK_ROWS})
    return config.model_copy(update={"fit": fit, "data": data})


if __name__ == "__main__":
    cli()
