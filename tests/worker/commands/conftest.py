"""`adscore` inside the test's own process, faster than a process each; and small bundles to score by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from worker.__main__ import cli
from worker.commands import edge


@dataclass(frozen=True)
class Ran:
    """What a verb left: exit status, standard output, standard error."""

    status: int
    out: str
    err: str


@pytest.fixture
def adscore(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`adscore("config", "show", env={…})`."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Ran:
        with monkeypatch.context() as patch:
            for name, value in (env or {}).items():
                if name.startswith("ADSCORE_"):
                    patch.setenv(name, value)
            capfd.readouterr()
            status = edge.run(cli(), list(arguments))
        told = capfd.readouterr()
        assert "Traceback" not in told.err
        return Ran(status, told.out, told.err)

    return run


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three heads that compute something simple of the pixels: whole bundles, seconds less than the real ones."""
    folder = tmp_path_factory.mktemp("models")
    grey = [_node("Cast", "image", "f", to=TensorProto.FLOAT), _node("Mul", "f k", "s")]
    rows = [_node("ReduceMean", "s channels", "g", keepdims=0), _node("Add", "g k", "heat")]
    total = _node("ReduceSum", "heat plane", "total", keepdims=1)
    score = [_node("ReduceMean", "heat plane", "m", keepdims=0), _node("Mul", "m half", "score")]
    heads = [*rows, total, _node("Div", "heat total", "heatmap"), *score]
    _bundle(folder / "dbafn" / "1", "attractiveness", grey + heads, ("score", "heatmap"), {})
    logits = _node("ReduceMean", "s plane", "sentiment_logits", keepdims=0)
    labels = {"labels": {"sentiment": ["negative", "neutral", "positive"]}}
    _bundle(folder / "fgmfn" / "1", "sentiment", [*grey, logits], ("sentiment_logits",), labels)
    ctr = [_node("ReduceMean", "s all", "c", keepdims=0), _node("Mul", "c k", "ctr")]
    rate = {"base_rate": 0.002, "bucket_edges": {"ctr": [0.8, 1.25]}}
    _bundle(folder / "adfusion" / "1", "ctr", [*grey, *ctr], ("ctr",), rate)
    return folder


def _node(kind: str, inputs: str, output: str, **attributes: int) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def _bundle(
    folder: Path, task: str, nodes: list[onnx.NodeProto], outputs: tuple[str, ...], rest: dict[str, Any]
) -> None:
    constants = {"k": np.float32(1 / 255), "half": np.float32(0.5), "channels": [3], "plane": [1, 2], "all": [1, 2, 3]}
    used = {name for node in nodes for name in node.input}
    shapes = {"heatmap": ["batch", 64, 64], "sentiment_logits": ["batch", 3]}
    shape = ["batch", 64, 64, 3]
    graph = helper.make_graph(
        nodes,
        task,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name, ["batch"])) for name in outputs],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    data = model.SerializeToString()
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(data)
    manifest = {
        "manifest_version": 1,
        "name": folder.parent.name,
        "version": folder.name,
        "task": task,
        "architecture": "tiny",
        "precision": "fp32",
        "inputs": [{"name": "image", "dtype": "uint8", "shape": shape}],
        "outputs": [{"name": name, "dtype": "float32", "shape": shapes.get(name, ["batch"])} for name in outputs],
        "image": {"height": 64, "width": 64, "mean": [0, 0, 0], "std": [1, 1, 1]},
        "files": {"model.onnx": hashlib.sha256(data).hexdigest()},
        "metrics": {"auc": 0.5},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | rest))
