"""Heatmaps that nobody trained: what a model must beat. They stand where `evaluate` takes a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from admodels.contract.manifest import Calibration
from training.datasets.sample import Record, Sample
from training.datasets.viewed import SALIENCY_SIDE
from training.encoded import Form
from training.saliency import centre_bias, spectral_residual
from training.tasks import Arrays

BASELINES: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float32]]] = {
    "centre-bias": lambda _: centre_bias(SALIENCY_SIDE, SALIENCY_SIDE),
    "spectral-residual": lambda image: spectral_residual(image, SALIENCY_SIDE, SALIENCY_SIDE),
}


class Baseline:
    """A baseline in a predictor's clothes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.architecture = name
        self.form: Form = "image"
        self.labels: dict[str, tuple[str, ...]] = {}
        self.served: dict[str, Calibration] = {}
        self.side = 256
        self._heatmap = BASELINES[name]

    def sample(self, record: Record) -> Sample:
        """A record with its pixels."""
        return record.sample(self.side)

    def predict(self, samples: Sequence[Sample]) -> Arrays:
        """`heatmap`, float32 B×64×64."""
        return {"heatmap": np.stack([self._heatmap(sample.image) for sample in samples])}
