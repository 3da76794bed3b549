"""A graph's arithmetic in fp16 or bf16, where that is safe: what a strongly typed engine takes for its precision.

Every tensor has one type, and a Cast stands where it changes. Products (MatMul, Conv, Gemm …) are narrow; sums over
many values (means, norms' reductions, cumulative sums), sigmoids, recurrences and softmaxes over more than
`WIDE_SOFTMAX` places stay fp32, as the graph's inputs and outputs do; what lies between follows what it reads.
A heatmap's softmax has a mean value of 6.8e-6 at 384×384, which is subnormal in fp16.
"""

from __future__ import annotations

from typing import Literal

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Narrow = Literal["fp16", "bf16"]

WIDE_SOFTMAX = 1024
LARGEST: dict[Narrow, float] = {"fp16": 65504.0, "bf16": 3.3895313892515355e38}
TYPES: dict[Narrow, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}

_NARROW = {"MatMul", "Gemm", "Conv", "ConvTranspose", "DequantizeLinear"}
_WIDE = {
    "AveragePool", "BatchNormalization", "CumSum", "Exp", "GlobalAveragePool", "GRU", "Log", "LogSoftmax", "LSTM",
    "Pow", "Range", "Reciprocal", "ReduceL2", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Resize", "RNN", "Sigmoid", "Sqrt",
}  # fmt: skip
_NOT_IN_BF16 = {"ConvTranspose"}
"""TensorRT 11 has no kernel for them."""
_LOSS = 0.02
"""A constant that the narrow type holds with a larger relative error keeps its operator in fp32."""


def narrow(model: onnx.ModelProto, to: Narrow) -> None:
    """Change the graph in place. It has no nested graphs. Raises ValueError where it has."""
    _Narrowing(model, to).run()


class _Narrowing:
    def __init__(self, model: onnx.ModelProto, to: Narrow) -> None:
        self.graph = model.graph
        self.to = to
        self.type = TYPES[to]
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.types, self.shapes = _types(model)
        self.is_narrow: set[str] = set()
        """Tensors whose type has changed."""
        self.casts: dict[tuple[str, bool], str] = {}
        self.made: list[onnx.NodeProto] = []

    def run(self) -> None:
        outputs = {value.name for value in self.graph.output}
        for node in self.graph.node:
            if any(
                attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
                for attribute in node.attribute
            ):
                raise ValueError(f"{node.op_type} {node.name} holds a graph of its own, which can't be narrowed")
            self._node(node, outputs)
        del self.graph.node[:]
        self.graph.node.extend(self.made)
        used = {name for node in self.graph.node for name in node.input}
        for tensor in list(self.graph.initializer):
            if tensor.name not in used:
                self.graph.initializer.remove(tensor)
        # What is noted of values between may be the old type.
        del self.graph.value_info[:]

    def _node(self, node: onnx.NodeProto, outputs: set[str]) -> None:
        floats = [i for i, name in enumerate(node.input) if self._is_float(name)]
        if node.op_type in ("Cast", "Constant", "ConstantOfShape", "Shape"):
            self.made.append(node)  # takes any type, and says what it makes
            return
        be_narrow = self._be_narrow(node, floats)
        for i in floats:
            node.input[i] = self._as(node.input[i], be_narrow)
        results = [name for name in node.output if name and self._is_float(name)]
        self.made.append(node)
        if not be_narrow:
            return
        for name in results:
            if name in outputs:
                inner = f"{name}.{self.to}"
                node.output[list(node.output).index(name)] = inner
                self.made.append(helper.make_node("Cast", [inner], [name], to=TensorProto.FLOAT))
                self.is_narrow.add(inner)
                self.casts[name, True] = inner
            else:
                self.is_narrow.add(name)

    def _be_narrow(self, node: onnx.NodeProto, floats: list[int]) -> bool:
        if not floats or node.op_type in _WIDE or (self.to == "bf16" and node.op_type in _NOT_IN_BF16):
            return False
        constants = [node.input[i] for i in floats if node.input[i] in self.constants]
        if not all(map(self._holds, constants)):
            return False
        if node.op_type in _NARROW:
            return True
        if node.op_type == "Softmax" and self._places(node) > WIDE_SOFTMAX:
            return False
        data = [node.input[i] for i in floats if node.input[i] not in self.constants]
        if not data:  # a table's rows
            return node.op_type == "Gather"
        return all(name in self.is_narrow for name in data)

    def _places(self, node: onnx.NodeProto) -> int:
        """Over how many places a softmax runs; a symbolic length is a text's, hence small."""
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
        shape = self.shapes.get(node.input[0], ())
        size = shape[axis] if shape else WIDE_SOFTMAX + 1
        return size if isinstance(size, int) else 0

    def _holds(self, name: str) -> bool:
        """Whether the narrow type holds the constant: no value too large, and a lone number (a scale, ε) closely."""
        wide = numpy_helper.to_array(self.constants[name])
        if wide.size != 1:
            return bool(np.abs(wide).max(initial=0.0) <= LARGEST[self.to])
        lone = float(wide.reshape(()))
        return abs(float(narrowed(wide, self.to).reshape(())) - lone) <= _LOSS * abs(lone)

    def _is_float(self, name: str) -> bool:
        return self.types.get(name) == TensorProto.FLOAT

    def _as(self, name: str, be_narrow: bool) -> str:
        """The tensor in the wanted type: itself, a narrow constant, or behind a Cast."""
        if (name in self.is_narrow) == be_narrow:
            return name
        if (name, be_narrow) not in self.casts:
            made = f"{name}.{self.to}" if be_narrow else f"{name}.fp32"
            self.casts[name, be_narrow] = made
            if name in self.constants:
                values = numpy_helper.to_array(self.constants[name])
                self.graph.initializer.append(_tensor(values, made, self.to))
            else:
                to = self.type if be_narrow else TensorProto.FLOAT
                self.made.append(helper.make_node("Cast", [name], [made], to=to))
        return self.casts[name, be_narrow]


def narrowed(values: NDArray[np.float32], to: Narrow) -> NDArray[np.floating]:
    """The values in the narrow type; what is too large for it becomes its largest."""
    kind = np.float16 if to == "fp16" else ml_dtypes.bfloat16
    return np.clip(values, -LARGEST[to], LARGEST[to]).astype(kind)


def _tensor(values: NDArray[np.float32], name: str, to: Narrow) -> onnx.TensorProto:
    return onnx.helper.make_tensor(name, TYPES[to], values.shape, narrowed(values, to).tobytes(), raw=True)


def _types(model: onnx.ModelProto) -> tuple[dict[str, int], dict[str, tuple[int | str, ...]]]:
    """Element types and shapes of every tensor, as the exporter noted them or ONNX infers them."""
    graph = model.graph
    known = {value.name for value in (*graph.value_info, *graph.input, *graph.output)}
    if any(name and name not in known for node in graph.node for name in node.output):
        graph = onnx.shape_inference.infer_shapes(model).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    shapes: dict[str, tuple[int | str, ...]] = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        types[value.name] = kind.elem_type
        if kind.HasField("shape"):
            shapes[value.name] = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim)
    return types, shapes
