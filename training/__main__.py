"""`adscore-train`: fit, evaluate, calibrate, compare, ablate, synth."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from training import config as configuration
from training import synthetic
from training.datasets.sample import BadRows

_FOLDER = click.Path(path_type=Path, file_okay=False)
_UNAVAILABLE = {"BundleError", "CheckpointError", "EngineError", "EngineMemoryError", "WeightsUnavailableError"}
_SKIP_BAD = click.option("--skip-bad", is_flag=True, help="Skip rows that can't be read, and count them.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train, evaluate and calibrate the models; make creatives."""


@cli.command()
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--root", type=_FOLDER, required=True, help="The data set's own folder (data/osie for generated).")
@click.option("--out", type=_FOLDER, required=True, help="The run's folder; a run that lies there is continued.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@_SKIP_BAD
def fit(config: Path, root: Path, out: Path, seed: int, skip_bad: bool) -> None:
    """Train as CONFIG (a file of training/configs) says; leaves OUT/best. Under torchrun, on several GPUs."""
    checked = configuration.load(config)
    from training.fit import fit as run
    from training.place import here

    command = f"adscore-train fit {_plain(config)} --root {_plain(root)} --out {_plain(out)} --seed {seed}"
    with here() as place:
        report = _say if place.first else lambda _: None
        bad = BadRows(skip=skip_bad, report=report)
        metrics = run(checked, root, out, seed=seed, command=command, report=report, place=place, bad=bad)
        if place.first:
            click.echo(json.dumps({"run": str(out), "skipped": bad.count, "metrics": metrics}))


@cli.command()
@click.argument("model", type=_FOLDER)
@click.option("--dataset", required=True, help="generated, or a folder name of ../shared/data.")
@click.option("--root", type=_FOLDER, required=True, help="The data set's own folder.")
@click.option("--models", type=_FOLDER, help="Where the shared encoders' bundles lie. [default: the checkout's]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.option("--predictions", type=click.Path(path_type=Path, dir_okay=False), help="A JSON line per row.")
@_SKIP_BAD
def evaluate(
    model: Path, dataset: str, root: Path, models: Path | None, as_json: bool, predictions: Path | None, skip_bad: bool
) -> None:  # fmt: skip
    """Measure MODEL (a run's or a bundle's folder, a bundle's name, centre-bias, spectral-residual) on a data set."""
    from training import evaluate as evaluation
    from training.baselines import BASELINES, Baseline
    from training.encoders import MODELS, folder_of
    from training.predictor import Predictor

    if dataset not in evaluation.NAMES:
        hint = configuration.nearest(dataset, list(evaluation.NAMES))
        raise click.UsageError(f"unknown dataset {dataset!r}; {hint}")
    bundles = models or MODELS
    predictor = Baseline(str(model)) if str(model) in BASELINES else Predictor(folder_of(model, bundles), bundles)
    report, rows = evaluation.evaluate(predictor, dataset, root, BadRows(skip=skip_bad, report=_say))
    if predictions is not None:
        predictions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    click.echo(json.dumps(report) if as_json else _table(report))


def _many(command: Callable[..., None]) -> Callable[..., None]:
    """The options that compare and ablate share."""
    for option in (
        click.argument("config", type=click.Path(path_type=Path, dir_okay=False)),
        click.option("--root", type=_FOLDER, required=True, help="The data set's own folder."),
        click.option("--out", type=_FOLDER, required=True, help="Where the runs go; finished ones are kept."),
        click.option("--seeds", type=click.IntRange(1, 5), default=3, show_default=True),
        click.option("--resamples", type=click.IntRange(min=20), default=1000, show_default=True),
        click.option("--metric", help="What is compared. [default: the configuration's fit.monitor]"),
        click.option("--epochs", type=click.IntRange(min=1), help="Fewer epochs than the configuration's."),
        click.option("--rows", type=click.IntRange(min=1), help="About so many rows of the set, for a quick look."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table."),
        _SKIP_BAD,
    )[::-1]:
        command = option(command)
    return command


@cli.command()
@_many
@click.option("--ablations", is_flag=True, help="Also without the parts that the paper's ablation takes away.")
def compare(config: Path, ablations: bool, **options: Any) -> None:
    """Train CONFIG's model, its image-only and text-only forms, and early, late and MLP fusion on the same encoders;
    tell them apart with 95 % intervals."""
    from training.variants import ablated, compared

    _tell_apart(config, (lambda c: compared(c) | ablated(c)) if ablations else compared, **options)


@cli.command()
@_many
def ablate(config: Path, **options: Any) -> None:
    """Train CONFIG's model with and without the parts that its paper's ablation takes away."""
    from training.variants import ablated

    _tell_apart(config, ablated, **options)


def _tell_apart(
    config: Path, variants: Callable[[configuration.Config], dict[str, configuration.Config]], *, root: Path, out: Path,
    seeds: int, resamples: int, metric: str | None, epochs: int | None, rows: int | None, as_json: bool,
    skip_bad: bool,
) -> None:  # fmt: skip
    checked = configuration.load(config)
    shorter = checked.fit.model_copy(update={"epochs": epochs or checked.fit.epochs})
    fewer = checked.data.model_copy(update={"limit": rows or checked.data.limit})
    checked = checked.model_copy(update={"fit": shorter, "data": fewer})
    from training import compare as comparing

    named = metric or checked.fit.monitor or ""
    plan = comparing.Plan(variants(checked), root, out, seeds, resamples, named)
    outcome = comparing.compare(plan, _say, BadRows(skip=skip_bad, report=_say))
    click.echo(json.dumps(outcome) if as_json else comparing.table(outcome))


@cli.command()
@click.argument("run", type=_FOLDER)
@click.option("--root", type=_FOLDER, required=True, help="The data set's own folder.")
@_SKIP_BAD
def calibrate(run: Path, root: Path, skip_bad: bool) -> None:
    """Fit RUN's calibration again on its held-out rows, and show what it changes on rows it has not seen."""
    from training.fit import recalibrate

    click.echo(json.dumps(recalibrate(run, root, _say, BadRows(skip=skip_bad, report=_say))))


@cli.command()
@click.argument("out", type=_FOLDER)
@click.option("--photos", type=_FOLDER, required=True, help="A folder of photographs (data/osie/images).")
@click.option("--count", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def synth(out: Path, photos: Path, count: int, seed: int) -> None:
    """Make COUNT creatives of photographs: OUT/<id>.<suffix> and OUT/creatives.jsonl with copy and labels."""
    found = sorted(path for path in photos.glob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    out.mkdir(parents=True, exist_ok=True)
    with (out / "creatives.jsonl").open("w", encoding="utf-8") as lines:
        for creative in synthetic.creatives(found, count, seed):
            image = f"{creative.id}{creative.suffix}"
            (out / image).write_bytes(creative.image_bytes)
            lines.write(json.dumps(synthetic.as_event(creative, image), ensure_ascii=False) + "\n")
    _say(f"{count} creatives in {out}")


def main() -> None:
    """Run the command line: 0 done, 2 wrong usage, configuration or data, 3 a model is unavailable, 130 interrupted."""
    try:
        cli(prog_name="adscore-train", standalone_mode=False)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    # By name: the checkpoint's module needs torch, which a wrong option shouldn't wait for.
    except Exception as error:
        unavailable = type(error).__name__ in _UNAVAILABLE
        if not unavailable and not isinstance(error, (ValueError, OSError, FloatingPointError)):
            raise
        _say(f"adscore-train: {error}")
        sys.exit(3 if unavailable else 2)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _plain(path: Path) -> str:
    """A path for the record: relative to the working directory where it lies inside, else its last part."""
    full = path.resolve()
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) else full.name


def _table(report: dict[str, Any]) -> str:
    head = f"{report['model']} on {report['dataset']}: {report['rows']} rows, {report['skipped']} skipped"
    return "\n".join([head, *(f"  {name:<28} {value:.4f}" for name, value in report["metrics"].items())])


if __name__ == "__main__":
    main()
