"""Calibration against formulas written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from admodels.contract.calibrate import apply
from admodels.contract.manifest import Calibration


def test_identity_returns_a_copy() -> None:
    raw = np.array([0.25, 0.5], np.float32)
    out = apply(Calibration(kind="identity"), raw)
    np.testing.assert_array_equal(out, raw)
    out[0] = 1.0
    assert raw[0] == 0.25


@pytest.mark.parametrize("p", [0.001, 0.2, 0.5, 0.93])
def test_platt_is_sigma_of_a_logit_p_plus_b(p: float) -> None:
    expected = 1 / (1 + math.exp(-(1.7 * math.log(p / (1 - p)) - 0.4)))
    out = apply(Calibration(kind="platt", a=1.7, b=-0.4), np.array([p], np.float32))
    assert out.dtype == np.float32
    assert out[0] == pytest.approx(expected, rel=1e-5)


def test_platt_with_unit_slope_changes_nothing() -> None:
    p = np.linspace(0.01, 0.99, 50, dtype=np.float32).reshape(10, 5)
    np.testing.assert_allclose(apply(Calibration(kind="platt"), p), p, atol=1e-6)


def test_platt_stays_finite_at_the_ends_and_under_steep_slopes() -> None:
    out = apply(Calibration(kind="platt", a=200.0, b=-3.0), np.array([0.0, 1.0], np.float32))
    np.testing.assert_array_equal(out, [0.0, 1.0])


def test_temperature_is_a_softmax_over_the_last_axis() -> None:
    logits = np.array([[1.0, 2.0, 4.0], [400.0, -400.0, 0.0]], np.float32)
    out = apply(Calibration(kind="temperature", t=2.0), logits)
    e = [math.exp(x / 2) for x in (1.0, 2.0, 4.0)]
    np.testing.assert_allclose(out[0], [x / sum(e) for x in e], rtol=1e-6)
    np.testing.assert_allclose(out.sum(axis=-1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("kind", ["platt", "temperature", "identity"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_does_not_become_a_score(kind: str, bad: float) -> None:
    out = apply(Calibration(kind=kind), np.array([[bad, 0.5]], np.float32))  # type: ignore[arg-type]
    assert not np.isfinite(out).all()
