"""Metrics as plain functions over numpy arrays. None of them knows a model or a data set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
_TINY = 1e-12


def pearson(truth: Array, predicted: Array) -> float:
    """Pearson's correlation; 0 when one side is constant."""
    a, b = truth - truth.mean(), predicted - predicted.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def spearman(truth: Array, predicted: Array) -> float:
    """Spearman's rank correlation, ties by their mean rank."""
    return pearson(rankdata(truth), rankdata(predicted))


def mae(truth: Array, predicted: Array) -> float:
    """Mean absolute error."""
    return float(np.abs(truth - predicted).mean())


def rmse(truth: Array, predicted: Array) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(((truth - predicted) ** 2).mean()))


def accuracy(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Share of rows whose class is right."""
    return float((truth == predicted).mean())


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur in truth or prediction."""
    scores = []
    for label in np.union1d(truth, predicted):
        hit = float(((truth == label) & (predicted == label)).sum())
        scores.append(2 * hit / float((truth == label).sum() + (predicted == label).sum()))
    return float(np.mean(scores))


def auc(truth: NDArray[np.bool_], score: Array, weight: Array | None = None) -> float:
    """Area under the ROC curve, each row counted `weight` times; NaN when one class is missing."""
    counts = np.ones(len(score)) if weight is None else weight
    order = np.argsort(score, kind="stable")
    ranked, positive = score[order], np.where(truth[order], counts[order], 0.0)
    negative = counts[order] - positive
    # Rows of equal score are one step of the curve.
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    positives, negatives = np.add.reduceat(positive, starts), np.add.reduceat(negative, starts)
    if positives.sum() == 0 or negatives.sum() == 0:
        return float("nan")
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / (positives.sum() * negatives.sum()))


def average_precision(truth: NDArray[np.bool_], score: Array) -> float:
    """Mean precision at each positive, best score first; NaN without positives.

    Rows of equal score are one step, at the precision behind the last of them: their order says nothing.
    """
    order = np.argsort(-score, kind="stable")
    hits, ranked = truth[order], score[order]
    if not hits.any():
        return float("nan")
    ends = np.r_[np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1]
    found = np.cumsum(hits)[ends]  # positives so far
    return float((np.diff(found, prepend=0) * found / (ends + 1)).sum() / hits.sum())


def click_metrics(clicks: Array, impressions: Array, predicted: Array) -> dict[str, float]:
    """CTR as a probability, per impression: log_loss, auc, brier, ece (15 bins of equal mass), pcoc.

    pcoc is predicted ÷ observed clicks; 1 is right.
    """
    p = np.clip(predicted.astype(np.float64), 1e-9, 1 - 1e-9)
    misses, total = impressions - clicks, float(impressions.sum())
    loss = -(clicks * np.log(p) + misses * np.log1p(-p)).sum() / total
    brier = (clicks * (1 - p) ** 2 + misses * p**2).sum() / total
    per_impression = auc(
        np.r_[np.ones(len(p), bool), np.zeros(len(p), bool)], np.r_[p, p], np.r_[clicks, misses].astype(np.float64)
    )
    observed = float(clicks.sum())
    return {
        "log_loss": float(loss),
        "auc": per_impression,
        "brier": float(brier),
        "ece": calibration_error(clicks, impressions, p),
        "pcoc": float((p * impressions).sum() / observed) if observed > 0 else float("nan"),
    }


def calibration_error(clicks: Array, impressions: Array, predicted: Array, bins: int = 15) -> float:
    """Expected calibration error over bins of equal impressions: mean |predicted − observed| per impression."""
    order = np.argsort(predicted, kind="stable")
    weight = impressions[order]
    middle = np.cumsum(weight) - weight / 2
    place = np.minimum((middle / weight.sum() * bins).astype(int), bins - 1)
    gaps = np.bincount(place, predicted[order] * weight - clicks[order], bins)
    return float(np.abs(gaps).sum() / weight.sum())


def confidence_error(truth: NDArray[np.int64], probabilities: Array, bins: int = 15) -> float:
    """Expected calibration error of a classifier's confidence, 15 bins of equal mass."""
    best = probabilities.argmax(1)
    hits = (best == truth).astype(np.float64)
    return calibration_error(hits, np.ones(len(hits)), probabilities.max(1), bins)


def saliency(truth: Array, points: NDArray[np.float32], predicted: Array) -> dict[str, float]:
    """One heatmap against one picture's viewers.

    truth, predicted: H×W ≥ 0 of any scale. points: N×2 fixations (x, y) in fractions of the picture.
    """
    p, q = truth / max(float(truth.sum()), _TINY), predicted / max(float(predicted.sum()), _TINY)
    height, width = q.shape
    inside = points[((points >= 0) & (points < 1)).all(1)]
    rows, columns = (inside[:, 1] * height).astype(int), (inside[:, 0] * width).astype(int)
    spread = float(q.std())
    return {
        "cc": pearson(p.ravel(), q.ravel()),
        "nss": float(((q[rows, columns] - q.mean()) / spread).mean()) if spread > 0 else 0.0,
        "kl": float((p * np.log(p / (q + _TINY) + _TINY)).sum()),
        "sim": float(np.minimum(p, q).sum()),
        "auc_judd": _auc_judd(q, rows, columns),
    }


def _auc_judd(predicted: Array, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> float:
    """Fixated pixels against all others, thresholds at the fixated values (Judd et al. 2012)."""
    fixated = np.zeros(predicted.shape, bool)
    fixated[rows, columns] = True
    return auc(fixated.ravel(), predicted.ravel())


def multi_label(truth: NDArray[np.bool_], probability: Array, threshold: float = 0.5) -> dict[str, float]:
    """N×K labels and probabilities → map, f1_c, f1_o.

    map: mean average precision of the classes with a positive. f1_c: F1 of the class-averaged precision and recall
    (a class that is never predicted has precision 0; classes without a positive don't count). f1_o: F1 of all
    decisions pooled.
    """
    present = truth.any(0)
    chosen = probability >= threshold
    hits = (truth & chosen).sum(0).astype(np.float64)
    precision = hits / np.maximum(chosen.sum(0), 1)
    recall = hits / np.maximum(truth.sum(0), 1)
    precisions = [average_precision(truth[:, k], probability[:, k]) for k in np.flatnonzero(present)]
    pooled = (hits.sum() / max(chosen.sum(), 1), hits.sum() / max(truth.sum(), 1))
    return {
        "map": float(np.mean(precisions)) if precisions else float("nan"),
        "f1_c": _f1(float(precision[present].mean()), float(recall[present].mean())) if precisions else float("nan"),
        "f1_o": _f1(float(pooled[0]), float(pooled[1])),
    }


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
