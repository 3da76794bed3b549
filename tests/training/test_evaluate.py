from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from click.testing import CliRunner

from training import evaluate
from training.__main__ import cli
from training.datasets.sample import DataError
from training.encoders import MODELS
from training.predictor import Predictor


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


def test_a_set_that_the_model_has_no_output_for_is_refused(dbafn, photo_root, tmp_path):
    (tmp_path / "data.csv").write_text("image,text,sentiment\nimages/p00.webp,so happy,positive\n")
    (tmp_path / "images").symlink_to(photo_root / "images")
    with pytest.raises(DataError, match="no output 'sentiment_logits'"):
        evaluate.evaluate(dbafn, "mm_tweet_sentiment", tmp_path)


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
