"""A model's raw output → the probability that is served. Serving, evaluation and export apply this same function."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from admodels.contract.manifest import Calibration

_EPSILON = 1e-7
"""Probabilities are kept this far from 0 and 1 before the logit, about float32's resolution there."""


def apply(calibration: Calibration, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """The calibrated probabilities, float32, of the same shape; a new array.

    raw: for `platt` probabilities in [0, 1] of any shape; for `temperature` logits ...×K, softmax over K; for
    `identity` anything. What isn't finite stays not finite: a broken output must not turn into a plausible score.
    """
    if calibration.kind == "platt":
        return _platt(raw.astype(np.float64), calibration.a, calibration.b).astype(np.float32)
    if calibration.kind == "temperature":
        return _softmax(raw.astype(np.float64) / calibration.t).astype(np.float32)
    return raw.astype(np.float32, copy=True)


def _platt(probability: NDArray[np.float64], a: float, b: float) -> NDArray[np.float64]:
    inside = np.clip(probability, _EPSILON, 1.0 - _EPSILON)
    inside = np.where(np.isfinite(probability), inside, np.nan)
    z = a * (np.log(inside) - np.log1p(-inside)) + b
    # σ without overflow: exp of a non-positive number only.
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
