"""Rewrites that every graph gets before its precision is chosen: the same numbers, in a form that engines take."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from admodels.runtime.tensorrt_graph import drop_unused


def cast_images_first(model: onnx.ModelProto) -> None:
    """A uint8 input that is moved and then cast is cast and then moved: TensorRT wants the Cast first. In place."""
    graph = model.graph
    for entry in graph.input:
        if entry.type.tensor_type.elem_type != TensorProto.UINT8:
            continue
        for move in [node for node in graph.node if entry.name in node.input and node.op_type == "Transpose"]:
            casts = [node for node in graph.node if move.output[0] in node.input]
            if len(casts) != 1 or casts[0].op_type != "Cast":
                continue
            cast, moved = casts[0], move.output[0]
            result = cast.output[0]
            cast.input[0], cast.output[0] = entry.name, moved
            move.input[0], move.output[0] = moved, result
            first, second = sorted((list(graph.node).index(move), list(graph.node).index(cast)))
            nodes = list(graph.node)
            nodes[first], nodes[second] = cast, move
            del graph.node[:]
            graph.node.extend(nodes)
            _retype(graph, moved, entry)


def fold_norms(model: onnx.ModelProto) -> None:
    """A BatchNormalization behind a Conv that nothing else reads becomes part of its weights and bias. In place."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    outputs = {value.name for value in graph.output}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        conv = makers.get(norm.input[0])
        if conv is None or conv.op_type != "Conv" or readers[norm.input[0]] != 1 or norm.input[0] in outputs:
            continue
        if not all(name in constants for name in (*norm.input[1:], *conv.input[1:])):
            continue
        scale, shift, mean, variance = (numpy_helper.to_array(constants[name]) for name in norm.input[1:5])
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        factor = scale / np.sqrt(variance + epsilon)
        weight = numpy_helper.to_array(constants[conv.input[1]])
        bias = numpy_helper.to_array(constants[conv.input[2]]) if len(conv.input) > 2 else np.zeros_like(mean)
        folded = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        result = norm.output[0]
        names = (f"{result}.weight", f"{result}.bias")
        graph.initializer.append(numpy_helper.from_array(folded.astype(np.float32), names[0]))
        graph.initializer.append(numpy_helper.from_array((shift + (bias - mean) * factor).astype(np.float32), names[1]))
        del conv.input[1:]
        conv.input.extend(names)
        conv.output[0] = result
        graph.node.remove(norm)
    drop_unused(graph)


def _retype(graph: onnx.GraphProto, name: str, source: onnx.ValueInfoProto) -> None:
    for value in graph.value_info:
        if value.name == name:
            value.type.CopyFrom(source.type)
            value.type.tensor_type.elem_type = TensorProto.FLOAT
