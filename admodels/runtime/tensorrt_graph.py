"""A bundle's graph as TensorRT takes it. The same numbers: only where and in which type constants stand changes.

TensorRT refuses two things that bundles have good reasons for: 8-bit constants that are widened by Cast and Mul (small
files; ONNX Runtime folds them when it loads), and a uint8 input that is moved before it is cast.
"""

from __future__ import annotations

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from admodels.runtime.runner import EngineError

_NARROW = (TensorProto.INT8, TensorProto.UINT8, TensorProto.FLOAT16)


def for_tensorrt(model: bytes) -> bytes:
    """The serialised graph, rewritten; Q/DQ constants are left alone, they are what TensorRT wants.

    Raises EngineError for bytes that are no graph.
    """
    try:
        proto = onnx.load_from_string(model)
    except DecodeError as error:
        raise EngineError("the graph can't be read: it is no ONNX") from error
    graph = proto.graph
    _cast_inputs_first(graph)
    _widen_gathered_tables(graph)
    while _fold_once(graph):
        pass
    drop_unused(graph)
    # Types and shapes noted for what lies between may be the old ones.
    del graph.value_info[:]
    return proto.SerializeToString()


def _cast_inputs_first(graph: onnx.GraphProto) -> None:
    """uint8 inputs become fp32 at once; the Cast that came later finds fp32 and does nothing."""
    for entry in graph.input:
        if entry.type.tensor_type.elem_type != TensorProto.UINT8:
            continue
        users = [node for node in graph.node if entry.name in node.input]
        if all(node.op_type == "Cast" for node in users):
            continue
        wide = f"{entry.name}.wide"
        for node in users:
            for index, name in enumerate(node.input):
                if name == entry.name:
                    node.input[index] = wide
        graph.node.insert(0, helper.make_node("Cast", [entry.name], [wide], to=TensorProto.FLOAT))


def _widen_gathered_tables(graph: onnx.GraphProto) -> None:
    """A narrow table whose gathered rows are cast becomes an fp32 table; its scales stay where they are."""
    for tensor in list(graph.initializer):
        if tensor.data_type not in _NARROW:
            continue
        users = [node for node in graph.node if tensor.name in node.input]
        if not users or not all(node.op_type == "Gather" and node.input[0] == tensor.name for node in users):
            continue
        rows = {node.output[0] for node in users}
        readers = [node for node in graph.node if rows & set(node.input)]
        if all(node.op_type == "Cast" and _target(node) == TensorProto.FLOAT for node in readers):
            wide = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
            tensor.CopyFrom(wide)


def _fold_once(graph: onnx.GraphProto) -> bool:
    """Compute the Casts to fp32 of narrow constants, and the products of constants; whether there was one."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for position, node in enumerate(graph.node):
        if not all(name in constants for name in node.input):
            continue
        if node.op_type == "Cast" and constants[node.input[0]].data_type in _NARROW:
            if _target(node) != TensorProto.FLOAT:
                continue
            made: NDArray[np.float32] = numpy_helper.to_array(constants[node.input[0]]).astype(np.float32)
        elif node.op_type == "Mul" and all(constants[name].data_type == TensorProto.FLOAT for name in node.input):
            left, right = (numpy_helper.to_array(constants[name]) for name in node.input)
            made = left * right
        else:
            continue
        graph.initializer.append(numpy_helper.from_array(made, node.output[0]))
        del graph.node[position]
        return True
    return False


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove constants that no node reads and that are no output, in place."""
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def _target(node: onnx.NodeProto) -> int:
    return int(helper.get_node_attr_value(node, "to"))
