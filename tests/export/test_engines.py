"""The verb `engine`, on real TensorRT-RTX and without a GPU."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from admodels.contract.bundle import MODEL, load_bundle
from admodels.runtime import cuda, tensorrt_module
from export.__main__ import cli, run
from export.engines import graph_at

MODELS = Path(__file__).parents[2] / "models"
pytestmark = pytest.mark.skipif(cuda.compute_capability() is not None, reason="what a machine without a GPU says")


@pytest.fixture(autouse=True)
def _rtx() -> None:
    tensorrt_module.load("tensorrt_rtx")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["adscore-export", *map(str, arguments)])
    return run(cli)


def test_a_bundles_engine_is_written_with_what_tensorrt_made_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dbafn.plan"
    assert call(monkeypatch, "engine", MODELS / "dbafn" / "1", "--out", out, "--sm", "8.6", "--batch", 4, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert out.stat().st_size == told["bytes"] > 1_000_000
    assert told["layers"] > 50
    manifest = load_bundle(MODELS / "dbafn" / "1").manifest
    names = {"float32": "FLOAT", "int64": "INT64", "uint8": "UINT8"}
    assert told["types"] == {spec.name: names[spec.dtype] for spec in (*manifest.inputs, *manifest.outputs)}
    (profile,) = told["profiles"]
    assert profile["tokens"] == [[1, 1, 384], [4, 64, 384], [4, 128, 384]]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ((), 3, "there is no GPU here; name what to build for: --sm 8.6"),
        (("--sm", "9.9"), 3, "knows no compute capability 9.9"),
    ],
)
def test_a_target_that_cant_be_built_for(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    out = tmp_path / "engine.plan"
    assert call(monkeypatch, "engine", MODELS / "dbafn" / "1", "--out", out, *arguments) == status
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_graph(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none.onnx").write_bytes(b"\x08garbage")
    assert call(monkeypatch, "engine", tmp_path / "none.onnx", "--out", tmp_path / "e", "--sm", "8.6") == 1
    assert "it is no ONNX" in capsys.readouterr().err


def test_a_bundle_is_checked_and_a_file_is_read() -> None:
    graph = graph_at(MODELS / "dbafn" / "1")
    assert graph == graph_at(MODELS / "dbafn" / "1" / MODEL)
