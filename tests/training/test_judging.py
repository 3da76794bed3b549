"""Every metric of the contract against an independent computation: scikit-learn, scipy, or by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as sk

from training import judging, measures
from training.datasets.posters import GENRES, JUDGED


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_genres_are_judged_as_scikit_learn_judges_them(rng):
    truth = (rng.random((300, len(GENRES))) < 0.2).astype(np.float32)
    truth[:, GENRES.index("Western")] = 0
    logits = rng.normal(size=truth.shape).astype(np.float32) + truth
    found = judging.genres({"keywords_logits": logits}, {"keywords": truth}, [])
    areas = {g: sk.roc_auc_score(truth[:, k], logits[:, k]) for k, g in enumerate(GENRES) if g != "Western"}
    assert {n: v for n, v in found.items() if n.startswith("auc/") and n != "auc/mean6"} == pytest.approx(
        {f"auc/{g}": area for g, area in areas.items()}
    )
    assert found["auc/mean6"] == pytest.approx(np.mean([areas[g] for g in JUDGED]))
    present = [k for k, g in enumerate(GENRES) if g != "Western"]
    assert found["map"] == pytest.approx(sk.average_precision_score(truth[:, present], logits[:, present]), abs=1e-6)


def test_popularity_is_ranked_where_it_is_known(rng):
    truth = rng.random((50, len(GENRES))) < 0.5
    popular, said = rng.random(50), rng.random(50)
    popular[:10] = np.nan
    served = {"keywords_logits": rng.normal(size=truth.shape), "share_likelihood": said}
    found = judging.genres(served, {"keywords": truth.astype(float), "share_likelihood": popular}, [])
    assert found["popularity/spearman"] == pytest.approx(spearmanr(popular[10:], said[10:]).statistic)
    assert "rating/spearman" not in found


def test_polarity_is_judged_as_scikit_learn_judges_it(rng):
    truth, logits = rng.integers(0, 3, 200), rng.normal(size=(200, 3))
    found = judging.polarity({"sentiment_logits": logits}, {"sentiment": truth}, [])
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(truth, logits.argmax(1)))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(truth, logits.argmax(1), average="macro"))
    assert found["log_loss"] == pytest.approx(sk.log_loss(truth, softmax(logits, 1)))


def test_a_class_that_only_the_prediction_knows_counts_in_macro_f1_as_in_scikit_learn():
    truth, said = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    assert measures.macro_f1(truth, said) == pytest.approx(sk.f1_score(truth, said, average="macro", zero_division=0))


def test_topics_are_judged_as_the_paper_says(rng):
    truth = (rng.random((120, 5)) < 0.3).astype(np.float32)
    truth[:, 4] = 0
    logits = rng.normal(size=truth.shape) + truth
    found = judging.ads({"topics_logits": logits, "emotions_logits": logits}, {"topics": truth}, [])
    assert set(found) == {"topic/map", "topic/f1_c", "topic/f1_o"}
    said = (expit(logits) >= 0.5).astype(int)
    assert found["topic/map"] == pytest.approx(sk.average_precision_score(truth[:, :4], logits[:, :4]))
    precision = sk.precision_score(truth[:, :4], said[:, :4], average="macro", zero_division=0)
    recall = sk.recall_score(truth[:, :4], said[:, :4], average="macro")
    assert found["topic/f1_c"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert found["topic/f1_o"] == pytest.approx(sk.f1_score(truth, said, average="micro"))


def test_topic_accuracy_counts_the_rows_on_which_annotators_agree():
    logits = np.eye(4)
    labels = {"topics": np.eye(4), "topic": np.array([0, 2, -1, 3])}
    assert judging.ads({"topics_logits": logits}, labels, [])["topic/accuracy"] == pytest.approx(2 / 3)


def test_appeal_is_judged_as_scipy_judges_it(rng):
    truth, said = rng.random(80), rng.random(80)
    truth[:5] = np.nan
    found = judging.appeal({"score": said}, {"score": truth}, [])
    assert found["pearson"] == pytest.approx(pearsonr(truth[5:], said[5:]).statistic)
    assert found["spearman"] == pytest.approx(spearmanr(truth[5:], said[5:]).statistic)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth[5:], said[5:]))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(truth[5:], said[5:]))


def test_clicks_are_judged_per_impression_as_scikit_learn_judges_every_impression(rng):
    impressions = rng.integers(50, 400, 40).astype(float)
    p = rng.uniform(0.02, 0.2, 40)
    clicked = rng.binomial(impressions.astype(int), p).astype(float)
    said = np.clip(p + rng.normal(0, 0.03, 40), 0.005, 0.5)
    extras = [{"test": str(n), "headline": "h"} for n in range(40)]
    found = judging.clicks({"ctr": said}, {"impressions": impressions, "clicks": clicked}, extras)
    hits = np.concatenate([[1] * int(c) + [0] * int(n - c) for c, n in zip(clicked, impressions, strict=True)])
    each = np.repeat(said, impressions.astype(int))
    assert found["ctr/log_loss"] == pytest.approx(sk.log_loss(hits, each))
    assert found["ctr/auc"] == pytest.approx(sk.roc_auc_score(hits, each))
    assert found["ctr/brier"] == pytest.approx(sk.brier_score_loss(hits, each))
    assert found["ctr/pcoc"] == pytest.approx(each.sum() / hits.sum())
    assert "pair_accuracy" not in found


def test_ece_is_the_gap_per_bin_of_equal_mass():
    # Two bins of ten impressions: .1 said and .3 seen, .5 said and .4 seen.
    found = measures.calibration_error(np.array([3.0, 4.0]), np.array([10.0, 10.0]), np.array([0.1, 0.5]), bins=2)
    assert found == pytest.approx((0.2 + 0.1) / 2)


def _tests() -> tuple[list[dict[str, str]], np.ndarray, np.ndarray]:
    rows = [
        ("a", "one", 1000, 10),
        ("a", "two", 1000, 30),
        ("a", "one", 1000, 90),  # against the first: the same headline; against the second: a pair
        ("a", "few", 99, 50),
        ("b", "one", 1000, 10),
        ("b", "two", 1000, 12),
    ]
    extras = [{"test": test, "headline": headline} for test, headline, _, _ in rows]
    return extras, np.array([row[2] for row in rows], float), np.array([row[3] for row in rows], float)


@pytest.mark.parametrize(
    ("said", "right"), [([0.1, 0.2, 0.3, 0, 0, 0], 1.0), ([0.1, 0.2, 0.0, 0, 0, 0], 0.5), ([0] * 6, 0.5)]
)
def test_pairs_are_within_a_test_of_enough_impressions_and_far_enough_apart(said, right):
    extras, impressions, clicked = _tests()
    assert judging.pair_accuracy(extras, impressions, clicked, np.array(said)) == right


def test_heatmaps_are_judged_at_96_by_128_over_the_pictures():
    extra = {"fixations": np.array([[0.25, 0.5]], np.float32)}
    good, bad = np.full((2, 64, 64), 1e-6, np.float32)
    good[28:36, 12:20] = 1
    bad[28:36, 44:52] = 1
    one, other = (judging.gaze({"heatmap": heat[None]}, {}, [extra]) for heat in (good, bad))
    assert one["cc"] > 0.8 > 0 > other["cc"]
    assert one["nss"] > 3 > other["nss"]
    assert one["kl"] < other["kl"]
    both = judging.gaze({"heatmap": np.stack([good, bad])}, {}, [extra, extra])
    assert both["cc"] == pytest.approx((one["cc"] + other["cc"]) / 2)


def test_heatmap_metrics_are_what_their_definitions_say(rng):
    truth, said = rng.random((12, 16)), rng.random((12, 16))
    points = rng.random((30, 2)).astype(np.float32)
    found = measures.saliency(truth, points, said)
    p, q = truth / truth.sum(), said / said.sum()
    assert found["cc"] == pytest.approx(pearsonr(p.ravel(), q.ravel()).statistic)
    z = (q - q.mean()) / q.std()
    assert found["nss"] == pytest.approx(np.mean([z[int(y * 12), int(x * 16)] for x, y in points]))
    assert found["kl"] == pytest.approx((p * np.log(p / q)).sum(), abs=1e-6)
    assert found["sim"] == pytest.approx(np.minimum(p, q).sum())
    seen = np.zeros((12, 16), int)
    for x, y in points:
        seen[int(y * 12), int(x * 16)] = 1
    assert found["auc_judd"] == pytest.approx(sk.roc_auc_score(seen.ravel(), q.ravel()))


def test_what_rows_allow_no_value_for_is_left_out():
    heatmaps = np.ones((2, 8, 8), np.float32)
    outside, inside = ({"fixations": np.array([[x, 0.5]], np.float32)} for x in (2.0, 0.5))
    assert judging.gaze({"heatmap": heatmaps[:1]}, {}, [outside]) == {}
    both = judging.gaze({"heatmap": heatmaps}, {}, [outside, inside])
    assert both == judging.gaze({"heatmap": heatmaps[1:]}, {}, [inside])
    assert judging.polarity({"sentiment_logits": np.zeros((2, 3))}, {"sentiment": np.array([-1, -1])}, []) == {}
    assert judging.appeal({"score": np.zeros(2)}, {"score": np.full(2, np.nan)}, []) == {}
    assert judging.ads({"topics_logits": np.zeros((2, 3))}, {"topics": np.full((2, 3), np.nan)}, []) == {}
    unseen = {"impressions": np.zeros(2), "clicks": np.zeros(2)}
    assert judging.clicks({"ctr": np.array([0.1, 0.2])}, unseen, [{"test": "a", "headline": "x"}] * 2) == {}


def test_own_creatives_are_judged_by_whatever_both_sides_have(rng):
    served = {"score": rng.random(4), "sentiment_logits": rng.normal(size=(4, 3))}
    found = judging.whatever(served, {"score": rng.random(4), "ctr": rng.random(4)}, [{}] * 4)
    assert set(found) == {"pearson", "spearman", "mae", "rmse"}
