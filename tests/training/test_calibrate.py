from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, log_softmax, logit

from training import calibrate, measures


def test_platt_finds_the_line_that_was_bent():
    rng = np.random.default_rng(2)
    true = rng.uniform(0.005, 0.05, 400)
    trials = np.full(400, 20_000.0)
    clicks = rng.binomial(20_000, true).astype(float)
    raw = expit((logit(true) - 0.7) / 1.6).astype(np.float32)
    found = calibrate.platt(raw, clicks, trials)
    assert found.kind == "platt"
    assert found.a == pytest.approx(1.6, rel=0.05)
    assert found.b == pytest.approx(0.7, rel=0.1)


def test_calibration_improves_ctr_on_rows_it_has_not_seen():
    rng = np.random.default_rng(3)
    true = rng.uniform(0.005, 0.05, 600)
    trials = np.full(600, 5_000.0)
    clicks = rng.binomial(5_000, true).astype(float)
    raw = np.clip(true * 3, 0, 1).astype(np.float32)
    labels = {"clicks": clicks[:300], "impressions": trials[:300]}
    found = calibrate.fit({"ctr": raw[:300]}, labels)
    served = calibrate.calibrated({"ctr": raw[300:]}, found)["ctr"]
    before = measures.click_metrics(clicks[300:], trials[300:], raw[300:])
    after = measures.click_metrics(clicks[300:], trials[300:], served)
    assert after["ece"] < before["ece"] / 5
    assert abs(after["pcoc"] - 1) < 0.05 < abs(before["pcoc"] - 1)
    assert after["log_loss"] < before["log_loss"]


def test_temperature_undoes_a_scale_and_ignores_unlabelled_rows():
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, (4000, 3))
    truth = np.array([rng.choice(3, p=np.exp(log_softmax(row))) for row in logits])
    truth[::10] = -1
    found = calibrate.temperature(logits * 2.5, truth)
    assert found.t == pytest.approx(2.5, rel=0.08)


def test_calibrated_logits_stay_logits_of_the_same_order():
    logits = np.array([[2.0, 0.0, -1.0]], np.float32)
    found = calibrate.fit({"sentiment_logits": np.tile(logits, (4, 1))}, {"sentiment": np.array([0, 0, 0, 1])})
    served = calibrate.calibrated({"sentiment_logits": logits}, found)["sentiment_logits"]
    assert np.exp(served).sum() == pytest.approx(1.0, abs=1e-5)
    assert list(np.argsort(served[0])) == [2, 1, 0]


def test_edges_part_the_rows_in_three():
    relative = np.linspace(0.4, 1.6, 300)
    low, high = calibrate.ctr_edges(relative)
    assert (low, high) == (0.8, 1.2)
