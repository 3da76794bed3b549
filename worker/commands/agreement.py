"""How far two models agree about the same creatives: rank correlation, population stability index, flips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
DECILES = 10


def rank_correlation(live: Values, candidate: Values) -> float | None:
    """Spearman's, ties by their mean rank, in [-1, 1].

    None where it says nothing: fewer than two creatives, or both models give every creative the same value. Where one
    alone does, 0.0: no order of one agrees with the other's.
    """
    if len(live) < 2:
        return None
    first, second = _ranks(live), _ranks(candidate)
    spread = float(first.std()), float(second.std())
    if not any(spread):
        return None
    if not all(spread):
        return 0.0
    covariance = float(np.mean((first - first.mean()) * (second - second.mean())))
    return float(np.clip(covariance / (spread[0] * spread[1]), -1.0, 1.0))


def stability(live: Sequence[str] | NDArray[np.int64], candidate: Sequence[str] | NDArray[np.int64]) -> float:
    """Population stability index over classes, >= 0: sum of (q - p) ln(q / p), p live's shares, q the candidate's.

    Half a creative is added to each class that either has, so that an empty one costs much and not everything.
    """
    classes, places = np.unique(np.concatenate([np.asarray(live), np.asarray(candidate)]), return_inverse=True)
    split = len(live)
    expected, actual = (
        (np.bincount(part, minlength=len(classes)) + 0.5) / (len(part) + 0.5 * len(classes))
        for part in (places[:split], places[split:])
    )
    return float(np.sum((actual - expected) * np.log(actual / expected)))


def decile_stability(live: Values, candidate: Values) -> float:
    """The same over the tenths that live's own values fall into: it sees what moves within a bucket."""
    edges = np.unique(np.quantile(live, np.linspace(0, 1, DECILES + 1)[1:-1]))
    return stability(np.searchsorted(edges, live, side="right"), np.searchsorted(edges, candidate, side="right"))


def flip_rate(live: Sequence[str], candidate: Sequence[str]) -> float:
    """Share of creatives whose bucket is another."""
    return float(np.mean([one != other for one, other in zip(live, candidate, strict=True)])) if live else 0.0


def _ranks(values: Values) -> Values:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Values = (last - (counts - 1) / 2)[places]
    return mean
