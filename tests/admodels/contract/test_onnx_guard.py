"""A graph that reaches for another file is told by its bytes, wherever in the graph the tensor stands."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import AttributeProto, FunctionProto, ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

from admodels.contract.onnx_guard import refuse_external_data

MODELS = Path(__file__).parents[3] / "models"


def tensor(*, external: bool) -> TensorProto:
    made = numpy_helper.from_array(np.ones(2, np.float32), "w")
    if external:
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        made.external_data.add(key="location", value="../../secret")
    return made


def initializer(model: ModelProto, value: TensorProto) -> None:
    model.graph.initializer.append(value)


def constant(model: ModelProto, value: TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=value))


def tensors(model: ModelProto, value: TensorProto) -> None:
    attribute = AttributeProto(name="many", type=AttributeProto.TENSORS)
    attribute.tensors.append(value)
    model.graph.node.add(op_type="Odd").attribute.append(attribute)


def subgraph(model: ModelProto, value: TensorProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [value])
    outer = helper.make_graph([helper.make_node("If", ["b"], ["y"], then_branch=inner)], "outer", [], [])
    model.graph.node.append(helper.make_node("If", ["b"], ["z"], else_branch=outer))


def sparse(model: ModelProto, value: TensorProto) -> None:
    made = SparseTensorProto(dims=[2])
    made.values.CopyFrom(value)
    model.graph.sparse_initializer.append(made)


def function(model: ModelProto, value: TensorProto) -> None:
    made = FunctionProto(name="f", domain="d")
    made.node.append(helper.make_node("Constant", [], ["c"], value=value))
    model.functions.append(made)


def training(model: ModelProto, value: TensorProto) -> None:
    model.training_info.add().algorithm.initializer.append(value)


PLACES = (initializer, constant, tensors, subgraph, sparse, function, training)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("external", [False, True])
def test_external_data_is_found_everywhere(place: Callable[[ModelProto, TensorProto], None], external: bool) -> None:
    model = helper.make_model(helper.make_graph([], "g", [], []))
    place(model, tensor(external=external))
    data = model.SerializeToString()
    if not external:
        refuse_external_data(data)
        return
    with pytest.raises(ValueError, match="lies in another file"):
        refuse_external_data(data)


def test_a_location_without_a_flag_is_refused_too() -> None:
    model = helper.make_model(helper.make_graph([], "g", [], []))
    odd = tensor(external=False)
    odd.external_data.add(key="location", value="x")
    initializer(model, odd)
    with pytest.raises(ValueError, match="lies in another file"):
        refuse_external_data(model.SerializeToString())


@pytest.mark.parametrize("graph", sorted(MODELS.glob("*/*/model.onnx")), ids=lambda path: path.parts[-3])
def test_the_bundles_of_this_repository_hold_all_their_numbers(graph: Path) -> None:
    refuse_external_data(graph.read_bytes())


@pytest.mark.parametrize(
    "data", [b"g", b"graph", b"\x3a\x05ab", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x38\x01", b"\0\0"]
)
def test_what_is_no_protobuf_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="isn't an ONNX graph"):
        refuse_external_data(data)


def test_endless_nesting_is_refused() -> None:
    data = b""
    for field in (b"\x32", b"\x2a", b"\x0a") * 60:  # attribute.g, node.attribute, graph.node, again and again
        size = len(data)
        data = field + bytes([size & 0x7F | 0x80, size >> 7]) + data
    with pytest.raises(ValueError, match="nested too deep"):
        refuse_external_data(b"\x3a" + bytes([len(data) & 0x7F | 0x80, len(data) >> 7]) + data)


def test_any_bytes_have_a_verdict() -> None:
    dice = random.Random(5)
    good = (MODELS / "adfusion" / "1" / "model.onnx").read_bytes()[:20_000]
    for _ in range(300):
        data = bytearray(good[: dice.randrange(len(good))])
        for _ in range(dice.choice((1, 10))):
            data[dice.randrange(len(data) or 1) - 1 : 1] = bytes([dice.randrange(256)])
        with contextlib.suppress(ValueError):
            refuse_external_data(bytes(data))
