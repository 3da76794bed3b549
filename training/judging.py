"""What a model's outputs are worth against the labels that the rows have, by the contract's names.

Every function takes outputs by their ONNX names, calibrated, and labels by name, N rows each; a metric that the labels
allow no value for is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from training import measures
from training.datasets.posters import GENRES, JUDGED
from training.saliency import density, resize

Arrays = Mapping[str, NDArray[Any]]
Extras = Sequence[Mapping[str, Any]]

# Heatmaps are judged at this size, whatever the model's own.
JUDGED_HEIGHT, JUDGED_WIDTH = 96, 128
LEAST_IMPRESSIONS, LEAST_GAP = 100, 0.35


def genres(served: Arrays, labels: Arrays, _: Extras) -> dict[str, float]:
    """auc/<genre>, auc/mean6 (over the six that the simple models were tried on), map; how popularity is ranked."""
    truth, score = labels["keywords"] > 0.5, served["keywords_logits"].astype(np.float64)
    areas = {name: measures.auc(truth[:, k], score[:, k]) for k, name in enumerate(GENRES)}
    found = {f"auc/{name}": area for name, area in areas.items()}
    found["auc/mean6"] = float(np.mean([areas[name] for name in JUDGED]))
    found["map"] = measures.multi_label(truth, expit(score))["map"]
    for name, output in (("popularity", "share_likelihood"), ("rating", "attention")):
        if output in served and output in labels:
            known = np.isfinite(labels[output])
            found[f"{name}/spearman"] = measures.spearman(labels[output][known], served[output][known])
    return _finite(found)


def polarity(served: Arrays, labels: Arrays, _: Extras) -> dict[str, float]:
    """accuracy, macro_f1, log_loss."""
    known = labels["sentiment"] >= 0
    if not known.any():
        return {}
    truth, logits = labels["sentiment"][known], served["sentiment_logits"][known].astype(np.float64)
    best, chosen = logits.argmax(1), softmax(logits, 1)[np.arange(len(truth)), truth]
    found = {"accuracy": measures.accuracy(truth, best), "macro_f1": measures.macro_f1(truth, best)}
    return found | {"log_loss": float(-np.log(np.maximum(chosen, 1e-12)).mean())}


def ads(served: Arrays, labels: Arrays, _: Extras) -> dict[str, float]:
    """topic/… and sentiment/… map, f1_c, f1_o; topic/accuracy on the rows where annotators agree on one topic."""
    found: dict[str, float] = {}
    for task, kind, output in (("topic", "topics", "topics_logits"), ("sentiment", "sentiments", "emotions_logits")):
        if kind in labels and output in served:
            known = np.isfinite(labels[kind]).all(1)
            if not known.any():
                continue
            p = expit(served[output][known].astype(np.float64))
            found |= {f"{task}/{k}": v for k, v in measures.multi_label(labels[kind][known] > 0.5, p).items()}
    if "topic" in labels and "topics_logits" in served and (agreed := labels["topic"] >= 0).any():
        best = served["topics_logits"][agreed].argmax(1)
        found["topic/accuracy"] = measures.accuracy(labels["topic"][agreed], best)
    return _finite(found)


def appeal(served: Arrays, labels: Arrays, _: Extras) -> dict[str, float]:
    """pearson, spearman, mae, rmse of the score."""
    known = np.isfinite(labels["score"])
    if not known.any():
        return {}
    truth, score = labels["score"][known].astype(np.float64), served["score"][known].astype(np.float64)
    found = {"pearson": measures.pearson(truth, score), "spearman": measures.spearman(truth, score)}
    return found | {"mae": measures.mae(truth, score), "rmse": measures.rmse(truth, score)}


def gaze(served: Arrays, _: Arrays, extras: Extras) -> dict[str, float]:
    """Means of cc, nss, kl, sim, auc_judd at JUDGED_HEIGHT × JUDGED_WIDTH over the pictures with a fixation inside."""
    sums: dict[str, list[float]] = defaultdict(list)
    for extra, heatmap in zip(extras, served["heatmap"], strict=True):
        points = extra.get("fixations")
        if points is None or not ((points >= 0) & (points < 1)).all(1).any():
            continue
        truth = density(points, JUDGED_HEIGHT, JUDGED_WIDTH, JUDGED_WIDTH / JUDGED_HEIGHT).astype(np.float64)
        predicted = resize(heatmap, JUDGED_HEIGHT, JUDGED_WIDTH).astype(np.float64)
        for name, value in measures.saliency(truth, points, predicted).items():
            sums[name].append(value)
    return {name: float(np.mean(values)) for name, values in sums.items()}


def clicks(served: Arrays, labels: Arrays, extras: Extras) -> dict[str, float]:
    """pair_accuracy within tests, and ctr/log_loss, auc, brier, ece, pcoc per impression."""
    known = np.isfinite(labels["impressions"]) & (labels["impressions"] > 0)
    if not known.any():
        return {}
    seen, clicked, p = labels["impressions"][known], labels["clicks"][known], served["ctr"][known]
    tests = [extra for extra, keep in zip(extras, known, strict=True) if keep]
    found = {"pair_accuracy": pair_accuracy(tests, seen, clicked, p)}
    return _finite(found | {f"ctr/{k}": v for k, v in measures.click_metrics(clicked, seen, p).items()})


def pair_accuracy(
    extras: Extras, impressions: NDArray[Any], clicked: NDArray[Any], predicted: NDArray[Any]
) -> float:  # fmt: skip
    """How often the better of two packages of one test is predicted higher; ties count half, no pair is NaN.

    extras: `test` and `headline` of every row. Pairs: different headlines, at least 100 impressions each, smoothed
    CTRs more than 35 % apart.
    """
    tests: dict[str, list[int]] = defaultdict(list)
    for index, extra in enumerate(extras):
        if impressions[index] >= LEAST_IMPRESSIONS:
            tests[extra["test"]].append(index)
    smoothed = (clicked + 0.5) / (impressions + 1)
    right = total = 0.0
    for one, other in (pair for members in tests.values() for pair in combinations(members, 2)):
        if extras[one]["headline"] == extras[other]["headline"]:
            continue
        low, high = sorted((one, other), key=lambda index: float(smoothed[index]))
        if smoothed[high] / smoothed[low] - 1 > LEAST_GAP:
            total += 1
            right += 0.5 * (1 + np.sign(float(predicted[high]) - float(predicted[low])))
    return float(right / total) if total else float("nan")


def whatever(served: Arrays, labels: Arrays, extras: Extras) -> dict[str, float]:
    """One's own creatives: everything that both the model and the rows have."""
    found: dict[str, float] = {}
    if "heatmap" in served and any("fixations" in extra for extra in extras):
        found |= gaze(served, labels, extras)
    for output, label, judge in (
        ("score", "score", appeal), ("sentiment_logits", "sentiment", polarity), ("ctr", "impressions", clicks),
    ):  # fmt: skip
        if output in served and label in labels:
            found |= judge(served, labels, extras)
    return found


def _finite(found: dict[str, float]) -> dict[str, float]:
    """Without what the rows allow no value for: a class without a positive, a test set without a pair."""
    return {name: value for name, value in found.items() if np.isfinite(value)}
