"""The tables of docs/results, made from comparison.json: no figure in those pages is typed by hand.

python -m training.results tables runs/compare/posters [MORE…]
python -m training.results pages --runs runs/compare
python -m training.results heatmaps runs/dbafn-saliency_osie centre-bias --root … --out heatmaps.jpg --photograph 1005
python -m training.results quick --data ../shared/data --out runs/quick
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from training import config as configuration
from training.baselines import BASELINES, Baseline
from training.compare import OUTCOME, Plan, compare
from training.datasets.sample import BadRows
from training.encoders import MODELS
from training.pages import fill, keep, markdown
from training.pictures import strip
from training.predictor import Predictor
from training.variants import ablated, compared

CONFIGS = Path(configuration.__file__).parent / "configs"
PAGES = Path(configuration.__file__).parents[1] / "docs" / "results"
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
@click.option(
    "--runs", type=_FOLDER, help="Where compare and ablate wrote; their outcomes are kept in measured/ first."
)
def pages(runs: Path | None) -> None:
    """Write the tables of docs/results anew."""
    if runs is not None:
        click.echo(f"kept {', '.join(keep(runs, PAGES)) or 'nothing'}", err=True)
    for page in fill(PAGES):
        click.echo(f"wrote {page.name}", err=True)


@cli.command()
@click.argument("models", type=_FOLDER, nargs=-1, required=True)
@click.option("--root", type=_FOLDER, required=True, help="saliency_osie's folder, or data/osie.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--photograph", "names", multiple=True, help="A validation photograph, by its name without suffix.")
def heatmaps(models: tuple[Path, ...], root: Path, out: Path, names: tuple[str, ...]) -> None:
    """Draw where people looked and where MODELS (runs, bundles, centre-bias, spectral-residual) say they do."""
    predictors = [Baseline(str(m)) if str(m) in BASELINES else Predictor(m, MODELS) for m in models]
    strip(predictors, root, [predictor.name for predictor in predictors], out, names)


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


def _small(config: configuration.Config) -> configuration.Config:
    monitor = _QUICK_MONITOR.get(config.dataset, config.fit.monitor)
    fit = config.fit.model_copy(update={"epochs": QUICK_EPOCHS, "warmup_steps": 0, "monitor": monitor})
    data = config.data.model_copy(update={"limit": QUICK_ROWS})
    return config.model_copy(update={"fit": fit, "data": data})


if __name__ == "__main__":
    cli()
