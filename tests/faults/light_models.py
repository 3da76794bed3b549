"""Bundles for fault tests: real ONNX graphs on the real engine, so small that hundreds of creatives take a second."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32
GRID = 8
_IMAGE = {"height": SIDE, "width": SIDE, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


def write_light_models(folder: Path) -> Path:
    """Write the three default bundles (`dbafn`, `fgmfn`, `adfusion`, version 1) into `folder`; return it."""
    _write(folder, "dbafn", "attractiveness", {"score": (), "heatmap": (GRID, GRID)})
    _write(
        folder,
        "fgmfn",
        "sentiment",
        {"sentiment_logits": (3,)},
        labels={"sentiment": ["negative", "neutral", "positive"]},
    )
    _write(folder, "adfusion", "ctr", {"ctr": ()}, base_rate=0.5, bucket_edges={"ctr": [0.8, 1.2]})
    return folder


def write_next_ctr(folder: Path) -> Path:
    """Write version 2 of `adfusion`, which scores otherwise, into `folder`; return it."""
    edges = {"ctr": [0.8, 1.2]}
    _write(folder, "adfusion", "ctr", {"ctr": ()}, version="2", base_rate=0.5, bucket_edges=edges)
    return folder


def _write(
    folder: Path, name: str, task: str, outputs: dict[str, tuple[int, ...]], *, version: str = "1", **more: Any
) -> None:
    place = folder / name / version
    place.mkdir(parents=True)
    model = _graph(name, outputs, seed=len(name) * int(version))
    (place / "model.onnx").write_bytes(model)
    manifest = {
        "manifest_version": 1,
        "name": name,
        "version": version,
        "task": task,
        "architecture": "light",
        "precision": "fp32",
        "inputs": [{"name": "image", "dtype": "uint8", "shape": ["batch", SIDE, SIDE, 3]}],
        "outputs": [
            {"name": output, "dtype": "float32", "shape": ["batch", *shape]} for output, shape in outputs.items()
        ],
        "image": _IMAGE,
        "files": {"model.onnx": hashlib.sha256(model).hexdigest()},
    }
    (place / "manifest.json").write_text(json.dumps(manifest | more))


def _graph(name: str, outputs: dict[str, tuple[int, ...]], seed: int) -> bytes:
    """The mean colour, then one small matrix per output: scores differ between images, and batches don't matter."""
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["mean", "full"], ["colour"]),
    ]
    weights = [numpy_helper.from_array(np.float32(255), "full")]
    for output, shape in outputs.items():
        width = int(np.prod(shape)) if shape else 1
        weights.append(numpy_helper.from_array(random.normal(size=(3, width)).astype(np.float32), f"{output}_w"))
        nodes.append(helper.make_node("MatMul", ["colour", f"{output}_w"], [f"{output}_x"]))
        if output.endswith("logits"):
            nodes.append(helper.make_node("Identity", [f"{output}_x"], [output]))
            continue
        shaped = numpy_helper.from_array(np.array([-1, *shape], dtype=np.int64), f"{output}_shape")
        weights.append(shaped)
        squash = helper.make_node("Softmax", [f"{output}_x"], [f"{output}_p"], axis=1)
        if not shape:
            squash = helper.make_node("Sigmoid", [f"{output}_x"], [f"{output}_p"])
        nodes += [squash, helper.make_node("Reshape", [f"{output}_p", f"{output}_shape"], [output])]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", *shape])
            for output, shape in outputs.items()
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
