"""How sure a metric is: bootstrap intervals over groups of rows, paired between two models.

Every seed validates on rows of its own (datasets/splits.py), but where the set names its validation rows. A resample
draws groups with replacement within each seed, computes the metric per seed and takes the mean over the seeds; seeds on
the same rows are drawn alike, for three runs on 40 photographs have seen 40 photographs, not 120. Two models are drawn
alike, so that what both find hard cancels in their difference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import judging, measures
from training.datasets.catalogue import Judge
from training.datasets.posters import GENRES, JUDGED

Metric = Callable[[NDArray[np.int64]], float]
"""Places of rows, repeated as drawn → the metric."""
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value, and where it lies with 95 % confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Seed:
    """One seed's validation rows: a metric per model over them, and every row's group."""

    metrics: Mapping[str, Metric]
    groups: Sequence[str]


def intervals(seeds: Sequence[Seed], resamples: int, rng: np.random.Generator) -> dict[str, Interval]:
    """Each model's mean over the seeds."""
    drawn = _draw(seeds, resamples, rng)
    return {name: _interval(_whole(seeds, name), values) for name, values in drawn.items()}


def differences(
    seeds: Sequence[Seed], pairs: Sequence[tuple[str, str]], resamples: int, rng: np.random.Generator
) -> dict[tuple[str, str], Interval]:  # fmt: skip
    """First minus second of each pair of models, on the same draws."""
    drawn = _draw(seeds, resamples, rng)
    return {
        (one, two): _interval(_whole(seeds, one) - _whole(seeds, two), drawn[one] - drawn[two]) for one, two in pairs
    }


def metric_of(
    name: str, judge: Judge, served: judging.Arrays, labels: judging.Arrays, extras: judging.Extras
) -> Metric:  # fmt: skip
    """One of the judge's metrics over any draw of the rows.

    What is a mean over rows, or a share of pairs, is worked out once per row; the rest is judged anew on each draw.
    """
    if "heatmap" in served and name in ("cc", "nss", "kl", "sim", "auc_judd"):
        seen = zip(served["heatmap"], extras, strict=True)
        found = [judging.gaze({"heatmap": heat[None]}, {}, [extra]) for heat, extra in seen]
        each = np.array([one.get(name, np.nan) for one in found])
        return lambda rows: _mean_of_known(each[rows])
    if name == "auc/mean6" and "keywords_logits" in served:
        columns = [GENRES.index(genre) for genre in JUDGED]
        truth, score = labels["keywords"][:, columns] > 0.5, served["keywords_logits"][:, columns].astype(np.float64)
        return lambda rows: float(np.mean([measures.auc(truth[rows, k], score[rows, k]) for k in range(len(columns))]))
    if name == "pair_accuracy":
        right, total = pairs_by_row(labels, extras, served["ctr"])
        return lambda rows: float(right[rows].sum() / max(total[rows].sum(), 1.0))

    def judged(rows: NDArray[np.int64]) -> float:
        own = {key: values[rows] for key, values in served.items()}
        known = {key: values[rows] for key, values in labels.items()}
        return judge(own, known, [extras[row] for row in rows]).get(name, float("nan"))

    return judged


def _mean_of_known(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def pairs_by_row(
    labels: judging.Arrays, extras: judging.Extras, predicted: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """(right, all) pairs of each row's test, at the test's first row and 0 elsewhere: a test is drawn whole."""
    tests: dict[str, list[int]] = defaultdict(list)
    for row, extra in enumerate(extras):
        tests[extra["test"]].append(row)
    right, total = np.zeros(len(extras)), np.zeros(len(extras))
    for rows in tests.values():
        for pair in combinations(rows, 2):
            own = [extras[row] for row in pair]
            at = np.array(pair)
            share = judging.pair_accuracy(own, labels["impressions"][at], labels["clicks"][at], predicted[at])
            if np.isfinite(share):
                right[rows[0]] += share
                total[rows[0]] += 1
    return right, total


def _whole(seeds: Sequence[Seed], name: str) -> float:
    return float(np.mean([seed.metrics[name](np.arange(len(seed.groups))) for seed in seeds]))


def _draw(seeds: Sequence[Seed], resamples: int, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Per model the metric of every resample, mean over the seeds; all models see the same draws."""
    sums = {name: np.zeros(resamples) for name in seeds[0].metrics}
    alike: dict[tuple[str, ...], list[Seed]] = defaultdict(list)
    for seed in seeds:
        alike[tuple(seed.groups)].append(seed)
    for groups, some in alike.items():
        members = _members(groups)
        for n in range(resamples):
            rows = np.concatenate([members[g] for g in rng.integers(len(members), size=len(members))])
            for seed in some:
                for name, metric in seed.metrics.items():
                    sums[name][n] += metric(rows) / len(seeds)
    return sums


def _members(groups: Sequence[str]) -> list[NDArray[np.int64]]:
    found: dict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        found[group].append(row)
    return [np.array(rows, np.int64) for rows in found.values()]


def _interval(value: float, draws: NDArray[np.float64]) -> Interval:
    low, high = np.nanquantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(value, float(low), float(high))
