"""Products in 8 bits: Q/DQ around the inputs of every Conv, MatMul and Gemm with constant weights, as engines take it.

int8: symmetric, weights with a scale per output channel, activations with one per tensor. fp8: E4M3, likewise.
Biases and products of two activations (attention) stay as they are. An activation's scale comes from what recorded
creatives put there: the largest magnitude, or a percentile of each creative's largest, which a lone outlier doesn't
stretch. No entropy: masks of −1e4 and beyond would fill its histograms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from admodels.runtime.tensorrt_graph import drop_unused

Eight = Literal["int8", "fp8"]
Feeds = Mapping[str, NDArray[Any]]

SMALLEST = 1024
"""Weights of fewer elements stay: their products cost nothing."""
FARTHEST = 1e4
"""An activation that goes beyond is a mask, not a signal: its product stays."""

_LARGEST: dict[Eight, float] = {"int8": 127.0, "fp8": 448.0}
_TYPES: dict[Eight, int] = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}
_CHANNEL = {"Conv": 0, "MatMul": 1, "Gemm": 1}
"""Axis of the output channels in the weights; Gemm's is 0 where they are transposed."""


def quantise_products(
    model: onnx.ModelProto, to: Eight, recorded: Sequence[Feeds], *, percentile: float = 100.0
) -> dict[str, float]:
    """Change the graph in place; returns the range of every activation that was quantised.

    recorded: batches of real inputs to calibrate on. percentile: 100 takes the largest magnitude of all, less that
    percentile over the creatives' largest ones.
    Raises ValueError without recorded inputs.
    """
    if not recorded:
        raise ValueError("8-bit graphs need recorded creatives to calibrate on; fit the model again with this version")
    products = _products(model)
    ranges = calibrate(model, sorted({node.input[0] for node in products}), recorded, percentile=percentile)
    ranges = {name: largest for name, largest in ranges.items() if 0 < largest < FARTHEST}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    done: dict[str, str] = {}
    chosen = {id(node) for node in products if node.input[0] in ranges}
    for node in model.graph.node:
        if id(node) in chosen:
            data, weight = node.input[0], node.input[1]
            if data not in done:
                done[data] = f"{data}.dequantised"
                nodes += _activation(model, data, ranges[data] / _LARGEST[to], to)
            if (key := f"{weight}/{node.op_type}") not in done:
                done[key] = f"{weight}.dequantised"
                values = numpy_helper.to_array(constants[weight])
                nodes.append(_weight(model, weight, values, _channel(node), to))
            node.input[0], node.input[1] = done[data], done[key]
        nodes.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    drop_unused(model.graph)
    return ranges


def calibrate(
    model: onnx.ModelProto, names: Sequence[str], recorded: Sequence[Feeds], *, percentile: float
) -> dict[str, float]:
    """Largest magnitude of each named tensor over the recorded inputs, by ONNX Runtime on the fp32 graph."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    for name in names:
        watched.graph.node.append(helper.make_node("Abs", [name], [f"{name}.abs"]))
        watched.graph.node.append(helper.make_node("ReduceMax", [f"{name}.abs"], [f"{name}.largest"], keepdims=0))
        watched.graph.output.append(helper.make_tensor_value_info(f"{name}.largest", TensorProto.FLOAT, []))
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = [f"{name}.largest" for name in names]
    seen: list[list[float]] = []
    for feeds in recorded:
        for row in range(len(next(iter(feeds.values())))):
            one = {key: values[row : row + 1] for key, values in feeds.items()}
            seen.append([float(value) for value in session.run(wanted, one)])
    largest = np.percentile(np.array(seen), percentile, axis=0)
    return dict(zip(names, map(float, largest), strict=True))


def _products(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    constants = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims, dtype=np.int64) >= SMALLEST
    }
    return [
        node
        for node in model.graph.node
        if node.op_type in _CHANNEL
        and node.input[1] in constants
        and node.input[0] not in constants
        and (node.op_type == "Conv" or len(constants[node.input[1]].dims) == 2)
        and not _flag(node, "transA")
    ]


def _channel(node: onnx.NodeProto) -> int:
    return 0 if _flag(node, "transB") else _CHANNEL[node.op_type]


def _flag(node: onnx.NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)


def _activation(model: onnx.ModelProto, name: str, scale: float, to: Eight) -> list[onnx.NodeProto]:
    scale_name, zero = f"{name}.scale", f"{name}.zero"
    model.graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), scale_name))
    model.graph.initializer.append(helper.make_tensor(zero, _TYPES[to], [], b"\0", raw=True))
    return [
        helper.make_node("QuantizeLinear", [name, scale_name, zero], [f"{name}.quantised"]),
        helper.make_node("DequantizeLinear", [f"{name}.quantised", scale_name, zero], [f"{name}.dequantised"]),
    ]


def _weight(model: onnx.ModelProto, name: str, values: NDArray[np.float32], axis: int, to: Eight) -> onnx.NodeProto:
    others = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(axis=others)
    scale = np.where(largest > 0, largest / _LARGEST[to], 1.0).astype(np.float32)
    spread = scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    scaled = np.clip(values / spread, -_LARGEST[to], _LARGEST[to])
    narrow: NDArray[Any] = np.rint(scaled).astype(np.int8) if to == "int8" else scaled.astype(ml_dtypes.float8_e4m3fn)
    parts = (f"{name}.{to}", f"{name}.scale", f"{name}.zero")
    model.graph.initializer.append(helper.make_tensor(parts[0], _TYPES[to], values.shape, narrow.tobytes(), raw=True))
    model.graph.initializer.append(numpy_helper.from_array(scale, parts[1]))
    model.graph.initializer.append(helper.make_tensor(parts[2], _TYPES[to], scale.shape, bytes(len(scale)), raw=True))
    return helper.make_node("DequantizeLinear", list(parts), [f"{name}.dequantised"], axis=axis)
