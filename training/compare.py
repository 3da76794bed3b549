"""`adscore-train compare` and `ablate`: variants of one configuration, trained with several seeds and told apart.

OUT/<variant>-s<seed>/ holds every run (finished ones are not trained again), OUT/comparison.json what they came to in
the configuration's own metric, OUT/comparison.<metric>.json in another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from admodels import checkpoint
from training.assembly import require_same, spec_of, stores_of, task_of
from training.baselines import BASELINES, Baseline
from training.config import GENERATED, Config, ConfigError
from training.datasets.catalogue import DATASETS
from training.datasets.sample import BadRows, DataError
from training.encoders import MODELS, SharedEncoders
from training.fit import VALIDATION, fit
from training.intervals import Seed, differences, intervals, metric_of
from training.tablestores import TableStores
from training.tasks import Arrays

Report = Callable[[str], None]
OUTCOME = "comparison.json"


@dataclass(frozen=True)
class Plan:
    """What to compare: variants by name, the first of which the others are held against."""

    variants: Mapping[str, Config]
    root: Path
    out: Path
    seeds: int
    resamples: int
    metric: str

    @property
    def first(self) -> Config:
        return next(iter(self.variants.values()))


def compare(plan: Plan, report: Report, bad: BadRows) -> dict[str, Any]:
    """Train what isn't trained yet, write OUT's outcome, return it.

    Raises ConfigError for generated creatives, which have no seeds of their own, and where a finished run in OUT is of
    another configuration.
    """
    if plan.first.dataset == GENERATED:
        raise ConfigError("generated creatives have no seeds of their own to compare; choose a data set that is read")
    runs = {
        name: [_run(plan, name, config, seed, report, bad) for seed in range(plan.seeds)]
        for name, config in plan.variants.items()
    }
    judged = [_seed(plan, runs, seed, report, bad) for seed in range(plan.seeds)]
    seeds, untrained = [seed for seed, _ in judged], [found for _, found in judged]
    rng = np.random.default_rng(0)
    means = intervals(seeds, plan.resamples, rng)
    base = next(iter(plan.variants))
    pairs = [(base, name) for name in means if name != base]
    summaries = {name: _summary(folders) for name, folders in runs.items()}
    summaries |= {name: {"metrics": _mean([u[name] for u in untrained]), "parameters": 0} for name in untrained[0]}
    told = differences(seeds, pairs, plan.resamples, rng) if pairs else {}
    outcome = {
        "dataset": plan.first.dataset,
        "model": base,
        "metric": plan.metric,
        "seeds": plan.seeds,
        "resamples": plan.resamples,
        "rows": [len(seed.groups) for seed in seeds],
        "variants": {name: asdict(means[name]) | summaries[name] for name in means},
        "differences": {name: asdict(told[base, name]) for _, name in pairs},
    }
    own = plan.metric == plan.first.fit.monitor
    file = OUTCOME if own else OUTCOME.replace(".json", f".{plan.metric.replace('/', '-')}.json")
    (plan.out / file).write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    return outcome


def table(outcome: Mapping[str, Any]) -> str:
    """The outcome as lines: every variant's metric with its interval, and what the first one gains over it."""
    rows = sum(outcome["rows"])
    lines = [
        f"{outcome['metric']} on {outcome['dataset']}: {outcome['seeds']} seeds, {rows} validation rows",
        f"{'':<34}{'mean':>8}   {'95 %':<16}{'first − this':>13}   95 %",
    ]
    for name, found in outcome["variants"].items():
        line = f"{name:<34}{found['value']:>8.4f}   [{found['low']:.4f}, {found['high']:.4f}]"
        if gap := outcome["differences"].get(name):
            line += f"{gap['value']:>+13.4f}   [{gap['low']:+.4f}, {gap['high']:+.4f}]"
        lines.append(line)
    return "\n".join(lines)


def _folder(plan: Plan, name: str, seed: int) -> Path:
    return plan.out / f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}-s{seed}"


def _run(plan: Plan, name: str, config: Config, seed: int, report: Report, bad: BadRows) -> Path:
    out = _folder(plan, name, seed)
    report(f"{name}, seed {seed} → {out}")
    if (out / VALIDATION).exists():
        require_same(out, config, seed)
    else:
        command = f"adscore-train compare: {name}, seed {seed}"
        features = plan.out.parent / "features"
        fit(config, plan.root, out, seed=seed, command=command, report=report, bad=bad, features=features)
    return out


def _seed(
    plan: Plan, runs: Mapping[str, Sequence[Path]], seed: int, report: Report, bad: BadRows
) -> tuple[Seed, dict[str, dict[str, float]]]:  # fmt: skip
    """The seed's validation rows, judged for every variant; and all metrics of the heatmaps that nobody trains, which
    stand beside the variants where the set judges heatmaps."""
    config = plan.first
    encoders = SharedEncoders(MODELS, config.encoders.image, config.encoders.text)
    spec = spec_of(config, encoders, task_of(config))
    stores = stores_of(config, spec, encoders, plan.root, plan.out.parent / "features", seed, bad, report)
    assert isinstance(stores, TableStores)
    rows, owners = stores.validation(), stores.validation_groups()
    judge = DATASETS[config.dataset].judge
    metrics = {}
    for name, folders in runs.items():
        served = _outputs(folders[seed])
        if any(len(values) != len(rows) for values in served.values()):
            raise DataError(f"{folders[seed]} was measured on other rows; remove it, so that it is trained again")
        metrics[name] = metric_of(plan.metric, judge, served, rows.labels, rows.extras)
    heatmaps = _untrained(stores) if "heatmap" in DATASETS[config.dataset].needs else {}
    metrics |= {
        name: metric_of(plan.metric, judge, served, rows.labels, rows.extras) for name, served in heatmaps.items()
    }
    return Seed(metrics, owners), {n: judge(served, rows.labels, rows.extras) for n, served in heatmaps.items()}


def _untrained(stores: TableStores) -> dict[str, Arrays]:
    models = [Baseline(name) for name in BASELINES]
    samples = [models[0].sample(record) for record in stores.validation_records()]
    return {model.name: model.predict(samples) for model in models}


def _outputs(run: Path) -> dict[str, NDArray[Any]]:
    with np.load(run / VALIDATION, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _summary(folders: Sequence[Path]) -> dict[str, Any]:
    """The means over the seeds of every metric that fit reported, and the model's size."""
    best = [checkpoint.load(folder) for folder in folders]
    trained = [{n: v for n, v in run.metrics.items() if "uncalibrated" not in n} for run in best]
    return {"metrics": _mean(trained), "parameters": best[0].training["parameters"]}


def _mean(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of the metrics that every seed has."""
    names = [name for name in found[0] if all(name in each for each in found)]
    return {name: float(np.mean([each[name] for each in found])) for name in names}
