from __future__ import annotations

import numpy as np
import pytest

from training import judging
from training.datasets.posters import GENRES
from training.intervals import Seed, differences, intervals, metric_of, pairs_by_row


def mean_of(values: np.ndarray):
    return lambda rows: float(values[rows].mean())


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    rng = np.random.default_rng(0)
    values = rng.normal(2.0, 1.0, 400)
    seed = Seed({"a": mean_of(values)}, [str(n) for n in range(400)])
    found = intervals([seed], 2000, rng)["a"]
    error = values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error * 1.96)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error * 1.96)


def test_what_both_models_find_hard_cancels_in_their_difference():
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 5.0, 200)
    own = {"a": mean_of(hard + 0.2), "b": mean_of(hard)}
    seeds = [Seed(own, [str(n) for n in range(200)])]
    apart = intervals(seeds, 500, rng)
    assert apart["a"].low < apart["b"].high
    told = differences(seeds, [("a", "b")], 500, rng)["a", "b"]
    assert told.value == pytest.approx(0.2)
    assert told.low == pytest.approx(0.2)
    assert told.high == pytest.approx(0.2)


def test_groups_are_drawn_whole():
    # Ten groups of forty equal rows carry as much as ten rows do.
    rng = np.random.default_rng(2)
    per_group = rng.normal(0, 1, 10)
    rows = np.repeat(per_group, 40)
    grouped = intervals([Seed({"a": mean_of(rows)}, [str(n // 40) for n in range(400)])], 1000, rng)["a"]
    single = intervals([Seed({"a": mean_of(rows)}, [str(n) for n in range(400)])], 1000, rng)["a"]
    assert (grouped.high - grouped.low) > 4 * (single.high - single.low)
    plain = intervals([Seed({"a": mean_of(per_group)}, [str(n) for n in range(10)])], 1000, rng)["a"]
    assert grouped.high - grouped.low == pytest.approx(plain.high - plain.low, rel=0.15)


def test_several_seeds_are_averaged_and_tell_more_than_one():
    rng = np.random.default_rng(3)
    values = [rng.normal(mean, 1, 100) for mean in (0.0, 1.0, 2.0)]
    seeds = [Seed({"a": mean_of(each)}, [f"{s}-{n}" for n in range(100)]) for s, each in enumerate(values)]
    found = intervals(seeds, 1000, rng)["a"]
    one = intervals(seeds[:1], 1000, rng)["a"]
    assert found.value == pytest.approx(np.mean([each.mean() for each in values]))
    assert found.high - found.low == pytest.approx((one.high - one.low) / np.sqrt(3), rel=0.25)


def test_seeds_on_the_same_rows_tell_no_more_of_them_than_one():
    rng = np.random.default_rng(3)
    groups, values = [str(n) for n in range(100)], rng.normal(0, 1, 100)
    one = intervals([Seed({"a": mean_of(values)}, groups)], 1000, np.random.default_rng(0))["a"]
    three = intervals([Seed({"a": mean_of(values)}, groups)] * 3, 1000, np.random.default_rng(0))["a"]
    assert (three.low, three.high) == pytest.approx((one.low, one.high))


def test_a_metric_over_all_rows_is_the_judges():
    rng = np.random.default_rng(4)
    labels = {"keywords": (rng.random((200, len(GENRES))) < 0.4).astype(float)}
    served = {"keywords_logits": rng.normal(size=(200, len(GENRES)))}
    judged = judging.genres(served, labels, [{}] * 200)
    for name in ("auc/mean6", "map", "auc/Drama"):
        metric = metric_of(name, judging.genres, served, labels, [{}] * 200)
        assert metric(np.arange(200)) == pytest.approx(judged[name])
    draw = rng.integers(0, 200, 200)
    own = judging.genres(
        {"keywords_logits": served["keywords_logits"][draw]}, {"keywords": labels["keywords"][draw]}, []
    )
    assert metric_of("auc/mean6", judging.genres, served, labels, [])(draw) == pytest.approx(own["auc/mean6"])


def test_pairs_worked_out_per_test_give_the_judges_share():
    rng = np.random.default_rng(5)
    extras = [{"test": f"t{n // 4}", "headline": f"h{n}"} for n in range(80)]
    labels = {"impressions": np.full(80, 3000.0), "clicks": rng.integers(10, 90, 80).astype(float)}
    said = rng.random(80)
    right, total = pairs_by_row(labels, extras, said)
    assert right.sum() / total.sum() == pytest.approx(
        judging.pair_accuracy(extras, labels["impressions"], labels["clicks"], said)
    )
    metric = metric_of("pair_accuracy", judging.clicks, {"ctr": said}, labels, extras)
    assert metric(np.arange(80)) == pytest.approx(right.sum() / total.sum())


def test_heatmap_metrics_are_means_over_the_drawn_pictures():
    rng = np.random.default_rng(6)
    extras = [{"fixations": rng.random((20, 2)).astype(np.float32)} for _ in range(3)]
    served = {"heatmap": rng.random((3, 16, 16)).astype(np.float32)}
    metric = metric_of("cc", judging.gaze, served, {}, extras)
    each = [judging.gaze({"heatmap": served["heatmap"][[n]]}, {}, [extras[n]])["cc"] for n in range(3)]
    assert metric(np.array([0, 0, 2])) == pytest.approx((2 * each[0] + each[2]) / 3)
    extras[1] = {}
    metric = metric_of("cc", judging.gaze, served, {}, extras)
    assert metric(np.array([0, 1, 2])) == pytest.approx((each[0] + each[2]) / 2)
    assert np.isnan(metric(np.array([1])))
