"""Raw scores → probabilities that mean what they say, fitted on rows that the weights have not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from admodels.contract.calibrate import apply
from admodels.contract.manifest import Calibration

Arrays = Mapping[str, NDArray[Any]]
_EPSILON = 1e-7


def platt(probability: NDArray[Any], hits: NDArray[Any], trials: NDArray[Any]) -> Calibration:
    """σ(a·logit(p) + b) with the least log-loss on `hits` of `trials` per row (shares count as hits of one trial)."""
    inside = np.clip(probability.astype(np.float64), _EPSILON, 1 - _EPSILON)
    logit = np.log(inside) - np.log1p(-inside)
    total = float(trials.sum())

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = x[0] * logit + x[1]
        gap = (trials / (1 + np.exp(-z)) - hits) / total
        return float((trials * np.logaddexp(0, z) - hits * z).sum() / total), np.array([(gap * logit).sum(), gap.sum()])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-10})
    return Calibration(kind="platt", a=float(found.x[0]), b=float(found.x[1]))


def temperature(logits: NDArray[Any], truth: NDArray[Any]) -> Calibration:
    """softmax(logits / t) with the least log-loss; rows without a label (−1) don't count."""
    known = truth >= 0
    kept, labels = logits[known].astype(np.float64), truth[known]

    def loss(x: NDArray[np.float64]) -> float:
        scaled = kept / np.exp(x[0])
        highest = scaled.max(1, keepdims=True)
        normaliser = highest[:, 0] + np.log(np.exp(scaled - highest).sum(1))
        return float((normaliser - scaled[np.arange(len(labels)), labels]).mean())

    found = minimize(loss, np.zeros(1), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-9})
    return Calibration(kind="temperature", t=float(np.exp(found.x[0])))


def fit(raw: Arrays, labels: Arrays) -> dict[str, Calibration]:
    """The calibration of every output that has one: `score`, `ctr`, `sentiment_logits`."""
    found = {}
    if "score" in raw and "score" in labels:
        known = np.isfinite(labels["score"])
        found["score"] = platt(raw["score"][known], labels["score"][known], np.ones(int(known.sum())))
    if "ctr" in raw and "clicks" in labels:
        known = np.isfinite(labels["clicks"])
        found["ctr"] = platt(raw["ctr"][known], labels["clicks"][known], labels["impressions"][known])
    if "sentiment_logits" in raw and "sentiment" in labels:
        found["sentiment_logits"] = temperature(raw["sentiment_logits"], labels["sentiment"])
    return found


def calibrated(raw: Arrays, calibration: Mapping[str, Calibration]) -> dict[str, NDArray[Any]]:
    """Outputs with their calibration applied; logits stay logits (the logarithm of the calibrated softmax)."""
    served = dict(raw)
    for name, how in calibration.items():
        values = apply(how, raw[name])
        served[name] = np.log(np.maximum(values, 1e-12)) if how.kind == "temperature" else values
    return served


def ctr_edges(relative: NDArray[Any]) -> tuple[float, float]:
    """Where low, medium and high part: the tertiles of predicted relative CTR, to two decimals."""
    low, high = np.quantile(relative, (1 / 3, 2 / 3))
    return round(float(low), 2), round(float(high), 2)
