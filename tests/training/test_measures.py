from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from training import measures


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_correlations_and_errors_agree_with_scipy(rng):
    truth, predicted = rng.random(50), np.round(rng.random(50), 1)
    assert measures.pearson(truth, predicted) == pytest.approx(stats.pearsonr(truth, predicted).statistic)
    assert measures.spearman(truth, predicted) == pytest.approx(stats.spearmanr(truth, predicted).statistic)
    assert measures.mae(truth, predicted) == pytest.approx(metrics.mean_absolute_error(truth, predicted))
    assert measures.rmse(truth, predicted) == pytest.approx(metrics.root_mean_squared_error(truth, predicted))
    assert measures.pearson(truth, np.ones(50)) == 0.0


def test_classes_agree_with_sklearn(rng):
    truth, predicted = rng.integers(0, 4, 80), rng.integers(0, 3, 80)
    assert measures.accuracy(truth, predicted) == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert measures.macro_f1(truth, predicted) == pytest.approx(metrics.f1_score(truth, predicted, average="macro"))


def test_ranking_agrees_with_sklearn_with_ties_and_weights(rng):
    truth, score, weight = rng.random(90) < 0.3, np.round(rng.random(90), 1), rng.random(90)
    expected = metrics.roc_auc_score(truth, score, sample_weight=weight)
    assert measures.auc(truth, score, weight) == pytest.approx(expected)
    distinct = rng.permutation(90).astype(float)
    expected = metrics.average_precision_score(truth, distinct)
    assert measures.average_precision(truth, distinct) == pytest.approx(expected)
    expected = metrics.average_precision_score(truth, score)
    assert measures.average_precision(truth, score) == pytest.approx(expected)
    assert measures.average_precision(truth[::-1], score[::-1]) == pytest.approx(expected)
    assert measures.average_precision(truth, np.zeros(90)) == pytest.approx(truth.mean())
    assert np.isnan(measures.auc(np.ones(3, bool), np.arange(3.0)))


def test_clicks_agree_with_sklearn_on_the_single_impressions(rng):
    impressions = rng.integers(20, 60, 12).astype(float)
    predicted = rng.uniform(0.05, 0.4, 12)
    clicks = rng.binomial(impressions.astype(int), predicted).astype(float)
    shown = np.repeat(predicted, impressions.astype(int))
    clicked = np.concatenate([np.arange(n) < c for n, c in zip(impressions, clicks, strict=True)])
    found = measures.click_metrics(clicks, impressions, predicted)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(clicked, shown))
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(clicked, shown))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(clicked, shown))
    assert found["pcoc"] == pytest.approx(shown.sum() / clicks.sum())


def test_a_constant_prediction_is_off_by_its_distance_from_the_mean():
    clicks, impressions = np.array([10.0, 30.0]), np.array([100.0, 100.0])
    assert measures.calibration_error(clicks, impressions, np.array([0.2, 0.2]), bins=1) == pytest.approx(0.0)
    assert measures.calibration_error(clicks, impressions, np.array([0.5, 0.5]), bins=1) == pytest.approx(0.3)
    assert measures.calibration_error(clicks, impressions, np.array([0.1, 0.3]), bins=2) == pytest.approx(0.0)


def test_confidence_error_of_a_sure_and_wrong_classifier_is_one():
    sure = np.tile([1.0, 0.0], (6, 1))
    assert measures.confidence_error(np.ones(6, int), sure) == pytest.approx(1.0)
    assert measures.confidence_error(np.zeros(6, int), sure) == pytest.approx(0.0)


def test_saliency_by_hand():
    truth = np.zeros((4, 4))
    truth[1, 2] = 1.0
    points = np.array([[0.6, 0.3]], np.float32)
    perfect = measures.saliency(truth, points, truth)
    assert perfect["cc"] == pytest.approx(1.0)
    assert perfect["sim"] == pytest.approx(1.0)
    assert perfect["kl"] == pytest.approx(0.0, abs=1e-6)
    assert perfect["auc_judd"] == pytest.approx(1.0)
    assert perfect["nss"] == pytest.approx((1 - 1 / 16) / truth.std())
    flat = measures.saliency(truth, points, np.ones((4, 4)))
    assert flat["nss"] == 0.0
    assert flat["cc"] == 0.0
    assert flat["auc_judd"] == pytest.approx(0.5)
    assert flat["kl"] == pytest.approx(np.log(16))
