from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from admodels.contract.bundle import BundleError
from training import encoders, evaluate
from training.__main__ import cli, main
from training.baselines import Baseline
from training.datasets.sample import DataError, Record
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


@pytest.mark.parametrize(
    ("table", "line", "dataset", "keys"),
    [
        ("data.csv", "image,text,sentiment\nimages/p00.webp,so happy,positive", "mm_tweet_sentiment", {"scores"}),
        ("packages.csv", "clickability_test_id,headline,impressions,clicks\nt,Look,100,2", "upworthy_ctr", {"score"}),
        (
            "creatives.csv",
            "headline,sentiment,impressions,clicks\nBuy,positive,100,2",
            "creatives",
            {"scores", "score"},
        ),
    ],
)
def test_predictions_are_of_what_the_set_asks_for(table, line, dataset, keys, photo_root, tmp_path):
    (tmp_path / table).write_text(line + "\n")
    (tmp_path / "images").symlink_to(photo_root / "images")
    (found,) = evaluate.evaluate(Predictor(MODELS / "adfusion" / "1", MODELS), dataset, tmp_path)[1]
    assert set(found) == {"row"} | keys
    if "scores" in keys:
        assert sum(found["scores"].values()) == pytest.approx(1)
        assert set(found["scores"]) == {"negative", "neutral", "positive"}


def _rewrite(folder: Path, name: str, new: bytes) -> None:
    """A bundle's file, which is a link to the repository's, becomes one of its own; the manifest knows its digest."""
    files = {name: new}
    if name != "manifest.json":
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["files"][name] = hashlib.sha256(new).hexdigest()
        files["manifest.json"] = json.dumps(manifest).encode()
    for path, content in files.items():
        (folder / path).unlink()
        (folder / path).write_bytes(content)


@pytest.fixture
def models(tmp_path) -> Path:
    return shutil.copytree(MODELS, tmp_path / "models", copy_function=os.link)


def test_another_encoder_than_the_head_was_trained_on_is_refused(models):
    minilm = models / "minilm" / "1"
    narrow = (minilm / "manifest.json").read_bytes().replace(b'"pad_to_multiple": 16', b'"pad_to_multiple": 8')
    _rewrite(minilm, "manifest.json", narrow)
    with pytest.raises(BundleError, match=r"trained on minilm/1 with digest \w{12}.*restore that encoder"):
        Predictor(models / "fgmfn" / "1", models)


def test_a_bundle_of_one_side_reads_that_side_alone(models, photo_root):
    fgmfn = models / "fgmfn" / "1"
    manifest = json.loads((fgmfn / "manifest.json").read_bytes())
    manifest["training"]["form"] = "image"
    _rewrite(fgmfn, "manifest.json", json.dumps(manifest).encode())
    predictor = Predictor(fgmfn, models)
    picture = photo_root / "images" / "p00.webp"
    records = [Record(0, "a", picture, {"body": text}, {}) for text in ("so happy", "so sad")]
    one, two = predictor.predict([predictor.sample(record) for record in records])["sentiment_logits"]
    assert np.array_equal(one, two)


def test_an_engine_that_cannot_be_had_is_a_line_and_status_3(models, photo_root, monkeypatch, capsys):
    _rewrite(models / "dbafn" / "1", "model.onnx", b"")
    command = ["evaluate", str(models / "dbafn" / "1"), "--dataset", "saliency_osie", "--root", str(photo_root)]
    monkeypatch.setattr(sys, "argv", ["adscore-train", *command])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 3
    assert "ONNX Runtime can't load the model" in capsys.readouterr().err


def test_pixels_are_let_go_once_they_are_scored(photo_root, monkeypatch):
    shown: list[weakref.ref[np.ndarray]] = []

    class Watching(Baseline):
        def predict(self, samples):
            assert not any(image() is not None for image in shown[:-1])
            shown.extend(weakref.ref(sample.image) for sample in samples)
            return super().predict(samples)

    monkeypatch.setattr(evaluate, "_BATCH", 1)
    (photo_root / "validation.txt").rename(photo_root / "kept.txt")
    try:
        evaluate.evaluate(Watching("centre-bias"), "saliency_osie", photo_root)
    finally:
        (photo_root / "kept.txt").rename(photo_root / "validation.txt")
    assert len(shown) == 12


def test_a_bundle_may_be_named_as_settings_name_it(models, photo_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    newer = models / "dbafn" / "10"
    shutil.copytree(models / "dbafn" / "1", newer)
    manifest = json.loads((newer / "manifest.json").read_bytes()) | {"version": "10"}
    (newer / "manifest.json").unlink()
    (newer / "manifest.json").write_text(json.dumps(manifest))
    assert encoders.folder_of(Path("dbafn"), models) == newer
    assert encoders.folder_of(Path("dbafn/1"), models) == models / "dbafn" / "1"
    assert encoders.folder_of(Path("models/dbafn/1"), models) == Path("models/dbafn/1")
    command = ["evaluate", "dbafn/10", "--dataset", "saliency_osie", "--root", str(photo_root)]
    found = CliRunner().invoke(cli, [*command, "--models", str(models), "--json"], catch_exceptions=False)
    assert json.loads(found.stdout)["model"] == "dbafn/10"


def test_an_unknown_set_names_the_nearest():
    arguments = ["evaluate", str(MODELS), "--dataset", "salincy_osie", "--root", "."]
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code == 2
    assert "'saliency_osie'" in found.stderr
