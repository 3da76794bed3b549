"""`adscore-export` from the outside: a run becomes a bundle, or a sentence and a status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from admodels import checkpoint
from admodels.contract.bundle import Bundle, load_bundle
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from export import heads
from export.__main__ import cli
from export.__main__ import run as run_cli
from export.encoders import as_function
from export.served import served as served_model


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["adscore-export", *map(str, arguments)])
    return run_cli(cli)


@pytest.fixture(scope="session")
def bundle(run: Path, models: Path) -> Bundle:
    with pytest.MonkeyPatch.context() as patch:
        assert call(patch, "bundle", run, "--models", models, "--version", "7") == 0
    return load_bundle(models / "adfusion" / "7")


def test_the_manifest_says_what_the_run_said(bundle: Bundle, run: Path) -> None:
    manifest, spec = bundle.manifest, checkpoint.load(run).spec
    assert (manifest.name, manifest.version, manifest.task) == ("adfusion", "7", "ctr")
    assert manifest.encoders == spec.encoders
    assert manifest.labels == {"theme": ("food", "travel", "other"), "keywords": ("sale", "new")}
    assert manifest.calibration["ctr"].a == 0.9
    assert manifest.base_rate == 0.02
    assert manifest.metrics == {"ctr/auc": 0.5}
    assert manifest.training["seed"] == 0
    assert set(manifest.tolerances) == {output.name for output in manifest.outputs}
    inputs = {spec.name: spec.shape for spec in manifest.inputs}
    assert inputs["c4"] == ("batch", 96, 16, 16)
    assert inputs["tokens"] == ("batch", "length", 384)
    assert inputs["attention_mask"] == ("batch", "length")


@pytest.mark.parametrize(("batch", "length"), [(1, 1), (3, 16), (5, 64)])
def test_the_graph_takes_any_batch_and_length_and_agrees_with_torch(
    bundle: Bundle, run: Path, batch: int, length: int
) -> None:
    generator = np.random.default_rng(batch)
    feeds = {
        spec.name: generator.normal(size=[{"batch": batch, "length": length}.get(str(d), d) for d in spec.shape])
        for spec in bundle.manifest.inputs
    }
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
    feeds["attention_mask"] = np.ones((batch, length), np.int64)
    served = OnnxRuntimeRunner(bundle.files["model.onnx"]).infer(feeds)
    loaded = checkpoint.load(run)
    wanted = as_function(served_model(loaded.spec, loaded.model()), tuple(served))(feeds)
    for name, value in served.items():
        assert len(value) == batch
        np.testing.assert_allclose(value, wanted[name], atol=1e-5)


def test_the_graph_holds_nothing_of_the_machine_that_made_it(bundle: Bundle) -> None:
    model = onnx.load_from_string(bundle.files["model.onnx"])
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert str(Path(__file__).parents[2]).encode() not in bundle.files["model.onnx"]
    assert b".py" not in bundle.files["model.onnx"]
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)


def test_verify_proves_a_written_bundle(
    bundle: Bundle, run: Path, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "verify", run, "--bundle", models / "adfusion" / "7", "--models", models, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    backends = {told["backend"]: told for told in report["backends"]}
    assert set(backends) | set(report["unavailable"]) == {"onnxruntime", "openvino", "tensorrt"}
    assert "onnxruntime" in backends
    for told in backends.values():
        assert {output["output"] for output in told["outputs"]} == {o.name for o in bundle.manifest.outputs}
        assert told["invariance"] <= 1e-3


def test_over_a_tolerance_nothing_is_written(
    bundle: Bundle,
    run: Path,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(heads, "_graph", lambda *_: bundle.files["model.onnx"])  # exporting it again takes long
    monkeypatch.setattr(heads, "tolerance", lambda *_: 0.0)
    assert call(monkeypatch, "bundle", run, "--models", models, "--version", "8") == 1
    assert not (models / "adfusion" / "8").exists()
    assert "FAILED" in capsys.readouterr().err
    assert call(monkeypatch, "onnx", run, "--models", models, "--out", tmp_path / "model.onnx") == 1
    assert not (tmp_path / "model.onnx").exists()
    monkeypatch.undo()
    monkeypatch.setattr(heads, "_graph", lambda *_: bundle.files["model.onnx"])
    assert call(monkeypatch, "onnx", run, "--models", models, "--out", tmp_path / "model.onnx") == 0
    assert (tmp_path / "model.onnx").read_bytes() == bundle.files["model.onnx"]


def test_a_graph_with_other_weights_is_found_out(
    bundle: Bundle, run: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = tmp_path / "best"
    shutil.copytree(run / "best", spoiled)
    loaded = checkpoint.load(spoiled)
    model = loaded.model()
    model.heads.values["ctr"].bias.data.add_(0.05)
    checkpoint.save(spoiled, model, loaded.spec, recorded=loaded.recorded)
    assert call(monkeypatch, "verify", spoiled, "--bundle", models / "adfusion" / "7", "--models", models) == 1


def test_an_encoder_that_is_not_the_one_trained_on_is_refused(
    run: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "best"
    shutil.copytree(run / "best", other)
    spec = json.loads((other / "spec.json").read_text())
    spec["encoders"][0]["digest"] = "0" * 64
    (other / "spec.json").write_text(json.dumps(spec))
    assert call(monkeypatch, "bundle", other, "--models", models, "--version", "9") == 1
    assert "trained on mobilenetv2/1 with digest 000000000000" in capsys.readouterr().err


def test_a_name_that_no_bundle_may_have_is_wrong_usage(
    bundle: Bundle,
    run: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(heads, "_graph", lambda *_: bundle.files["model.onnx"])
    assert call(monkeypatch, "bundle", run, "--models", models, "--name", "../Bad name") == 2
    assert "name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["bundle", "{tmp}"], 2, "holds no checkpoint"),
        (["bundle", "{tmp}/none"], 2, "holds no checkpoint"),
        (["bundle", "paper:resnet"], 2, "no model named 'resnet'"),
        (["encoder", "resnet"], 2, "'mobilenetv2', 'minilm'"),
        (["encoder", "minilm", "--weights", "x"], 2, "--weights is for mobilenetv2"),
        (["encoder", "mobilenetv2", "--weights", "{tmp}/none"], 3, "no weights at"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_what_a_user_can_do_wrong_is_a_sentence_and_a_status(
    arguments: list[str],
    status: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, *[a.format(tmp=tmp_path) for a in arguments]) == status
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
