"""A bf16 graph on a CPU: ONNX Runtime has no bf16 kernels there, so each bf16 value becomes fp32 rounded to bf16.

The same roundings in the same places; only the sums inside of one product are fp32, as an engine's are.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_BF16 = TensorProto.BFLOAT16


def emulated(model: bytes) -> bytes:
    """The graph with bf16 arithmetic played in fp32; one without bf16 comes back as it is."""
    proto = onnx.load_from_string(model)
    graph = proto.graph
    constants = [tensor for tensor in graph.initializer if tensor.data_type == _BF16]
    if not constants and not any(_target(node) == _BF16 for node in graph.node):
        return model
    known = onnx.shape_inference.infer_shapes(proto).graph
    short = {value.name for value in known.value_info if value.type.tensor_type.elem_type == _BF16}
    for tensor in constants:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        made = onnx.NodeProto()
        made.CopyFrom(node)
        if _target(node) == _BF16:
            next(attribute for attribute in made.attribute if attribute.name == "to").i = TensorProto.FLOAT
        nodes.append(made)
        for index, name in enumerate(node.output):
            if name in short:
                exact, rounded = f"{name}.exact", f"{name}.short"
                made.output[index] = exact
                nodes.append(helper.make_node("Cast", [exact], [rounded], to=_BF16))
                nodes.append(helper.make_node("Cast", [rounded], [name], to=TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return proto.SerializeToString()


def _target(node: onnx.NodeProto) -> int | None:
    """What a Cast makes; None for another operator."""
    return int(helper.get_node_attr_value(node, "to")) if node.op_type == "Cast" else None
