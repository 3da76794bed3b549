from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from click.testing import CliRunner

from training import evaluate
from training.__main__ import cli
from training.datasets.sample import DataError, Sample
from training.encoders import MODELS
from training.predictor import Predictor


def row(test: str, headline: str, impressions: float, clicks: float) -> Sample:
    labels = {"impressions": impressions, "clicks": clicks}
    return Sample("0", np.zeros((1, 1, 3), np.uint8), {}, labels, extra={"test": test, "headline": headline})


def test_pairs_are_within_a_test_of_enough_impressions_and_far_enough_apart():
    rows = [
        row("a", "one", 1000, 10),
        row("a", "two", 1000, 30),
        row("a", "one", 1000, 90),  # against the first: the same headline; against the second: a pair
        row("a", "few", 99, 50),
        row("b", "one", 1000, 10),
        row("b", "two", 1000, 12),
    ]
    assert evaluate.pair_accuracy(rows, np.array([0.1, 0.2, 0.3, 0, 0, 0], np.float32)) == 1.0
    assert evaluate.pair_accuracy(rows, np.array([0.1, 0.2, 0.0, 0, 0, 0], np.float32)) == 0.5
    assert evaluate.pair_accuracy(rows, np.zeros(6, np.float32)) == 0.5


def test_heatmaps_are_judged_at_96_by_128_over_the_pictures():
    points = np.array([[0.25, 0.5]], np.float32)
    sample = Sample("p", np.zeros((1, 1, 3), np.uint8), {}, {}, extra={"fixations": points, "name": "p"})
    good, bad = np.full((2, 64, 64), 1e-6, np.float32)
    good[28:36, 12:20] = 1
    bad[28:36, 44:52] = 1
    one, other = (evaluate.saliency_metrics([sample], heat[None]) for heat in (good, bad))
    assert one["cc"] > 0.8 > 0 > other["cc"]
    assert one["nss"] > 3 > other["nss"]
    assert one["kl"] < other["kl"]
    both = evaluate.saliency_metrics([sample, sample], np.stack([good, bad]))
    assert both["cc"] == pytest.approx((one["cc"] + other["cc"]) / 2)


@pytest.fixture(scope="module")
def dbafn() -> Predictor:
    return Predictor(MODELS / "dbafn" / "1", MODELS)


def test_a_bundle_is_measured_on_photographs(dbafn, photo_root):
    report, rows = evaluate.evaluate(dbafn, "saliency_osie", photo_root)
    assert (report["rows"], report["skipped"], report["text"]) == (2, 0, [])
    assert set(report["metrics"]) == {"cc", "nss", "kl", "sim", "auc_judd"}
    assert [row["id"] for row in rows] == ["p02", "p05"]
    heat = rows[0]["heatmap"]
    cells = np.frombuffer(base64.b64decode(heat["values"]), np.uint8)
    assert len(cells) == heat["grid"][0] * heat["grid"][1]
    assert cells.max() == 255


def test_a_set_that_the_model_has_no_output_for_is_refused(dbafn, photo_root):
    with pytest.raises(DataError, match="no output 'sentiment_logits'"):
        evaluate.evaluate(dbafn, "mm_tweet_sentiment", photo_root)


def test_the_command_prints_one_object_and_writes_a_line_per_row(photo_root, tmp_path):
    lines = tmp_path / "rows.jsonl"
    arguments = ["evaluate", str(MODELS / "dbafn" / "1"), "--dataset", "saliency_osie", "--root", str(photo_root)]
    found = CliRunner().invoke(cli, [*arguments, "--json", "--predictions", str(lines)], catch_exceptions=False)
    assert found.exit_code == 0
    assert json.loads(found.stdout)["dataset"] == "saliency_osie"
    assert len(lines.read_text().splitlines()) == 2


def test_an_unknown_set_names_the_nearest():
    arguments = ["evaluate", str(MODELS), "--dataset", "salincy_osie", "--root", "."]
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code == 2
    assert "'saliency_osie'" in found.stderr
