"""Seconds and creatives per model."""

from typing import Any

import numpy as np
import pytest

from admodels.runtime.runner import EngineError
from worker.metrics import Metrics
from worker.scoring.metered import MeteredRunner


class Inner:
    backend = "fake"

    def infer(self, feeds: dict[str, Any]) -> dict[str, Any]:
        if "bad" in feeds:
            raise EngineError("bad")
        return {"value": feeds["image"].sum(axis=1)}


def sample(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"name": "dbafn", "version": "1"})


def test_time_and_rows_are_counted_under_name_and_version() -> None:
    metrics = Metrics()
    runner = MeteredRunner(Inner(), "dbafn", "1", metrics)
    assert runner.backend == "fake"
    for rows in (3, 2):
        assert runner.infer({"image": np.ones((rows, 4))})["value"].tolist() == [4.0] * rows
    assert sample(metrics, "adscore_model_creatives_total") == 5
    assert (sample(metrics, "adscore_model_seconds_total") or 0) > 0


def test_a_failed_run_costs_time_and_scores_nobody() -> None:
    metrics = Metrics()
    with pytest.raises(EngineError, match="bad"):
        MeteredRunner(Inner(), "dbafn", "1", metrics).infer({"bad": np.ones((2, 1))})
    assert sample(metrics, "adscore_model_creatives_total") is None
    assert sample(metrics, "adscore_model_seconds_total") is not None
