"""Graphs of every precision: the types that an engine is built from, close numbers, fp32 where it must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.emulate import emulated
from export.precision import PRECISIONS, Precision, to_precision
from export.quantise import calibrate
from export.rewrites import cast_images_first, fold_norms
from export.runners import runner

PIXELS, WIDTH, HEAT = 12, 48, 2048
GENERATOR = np.random.default_rng(0)


def constant(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (GENERATOR.normal(size=shape) * scale).astype(np.float32)


def graph() -> onnx.ModelProto:
    """uint8 image → Conv → norm → mean → MatMul + mask → softmax → logits; a heatmap over 2,048 places beside it."""
    constants = {
        "scale": np.array(1 / 255, np.float32), "stem": constant(WIDTH, 3, 3, 3, scale=0.2),
        "stem_bias": constant(WIDTH), "gain": 1 + constant(WIDTH, scale=0.1), "shift": constant(WIDTH),
        "mean": constant(WIDTH), "variance": np.abs(constant(WIDTH)) + 0.5, "mix": constant(WIDTH, WIDTH, scale=0.15),
        "norm_gain": np.ones(WIDTH, np.float32), "norm_shift": np.zeros(WIDTH, np.float32),
        "out": constant(WIDTH, 40, scale=0.15), "heat": constant(WIDTH, HEAT, scale=0.15),
        "lowest": np.array(-3.4e38, np.float32), "axes": np.array([2, 3]),
        "least": np.array(-100, np.float32), "most": np.array(100, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Transpose", ["image"], ["moved"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["moved"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "scale"], ["pixels"]),
        helper.make_node("Conv", ["pixels", "stem", "stem_bias"], ["stemmed"], kernel_shape=[3, 3]),
        helper.make_node("BatchNormalization", ["stemmed", "gain", "shift", "mean", "variance"], ["normed"]),
        helper.make_node("Relu", ["normed"], ["features"]),
        helper.make_node("ReduceMean", ["features", "axes"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "mix"], ["mixed"]),
        helper.make_node("Greater", ["mixed", "least"], ["above"]),
        helper.make_node("Less", ["mixed", "most"], ["below"]),
        helper.make_node("And", ["above", "below"], ["inside"]),
        helper.make_node("Where", ["inside", "mixed", "scale"], ["kept"]),
        helper.make_node("LayerNormalization", ["kept", "norm_gain", "norm_shift"], ["even"]),
        helper.make_node("Mul", ["mask", "lowest"], ["bias"]),
        helper.make_node("Add", ["even", "bias"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["attention"], axis=-1),
        helper.make_node("Add", ["attention", "even"], ["joined"]),
        helper.make_node("Gemm", ["joined", "out"], ["kind_logits"]),
        helper.make_node("MatMul", ["joined", "heat"], ["heat_logits"]),
        helper.make_node("Softmax", ["heat_logits"], ["heatmap"], axis=-1),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [
                helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", PIXELS, PIXELS, 3]),
                helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", WIDTH]),
            ],
            [
                helper.make_tensor_value_info("kind_logits", TensorProto.FLOAT, ["batch", 40]),
                helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, ["batch", HEAT]),
            ],
            [numpy_helper.from_array(values, name) for name, values in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 22)],
        ir_version=10,
    )
    return onnx.shape_inference.infer_shapes(model)


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return graph()


@pytest.fixture(scope="module")
def feeds() -> dict[str, np.ndarray]:
    mask = (np.arange(WIDTH)[None] >= np.array([[WIDTH], [5], [30], [1]])).astype(np.float32)
    return {"image": GENERATOR.integers(0, 256, (4, PIXELS, PIXELS, 3), dtype=np.uint8), "mask": mask}


def infer(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(emulated(model.SerializeToString()), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def converted(model: onnx.ModelProto, precision: Precision, feeds: Mapping[str, Any]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    to_precision(copy, precision, [feeds])
    return copy


def types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


@pytest.mark.parametrize(
    ("precision", "logits", "heatmap"),
    [("fp32", 1e-6, 1e-9), ("fp16", 3e-3, 2e-5), ("bf16", 3e-2, 2e-4), ("int8", 6e-2, 5e-4), ("fp8", 0.3, 3e-3)],
)
def test_every_precision_is_close_and_not_equal(
    model: onnx.ModelProto, feeds: dict[str, np.ndarray], precision: Precision, logits: float, heatmap: float
) -> None:
    exact, narrow = infer(model, feeds), infer(converted(model, precision, feeds), feeds)
    for name, allowed in (("kind_logits", logits), ("heatmap", heatmap)):
        assert narrow[name].dtype == np.float32
        difference = np.abs(exact[name] - narrow[name]).max()
        assert difference <= allowed
        assert precision == "fp32" or difference > 0
    np.testing.assert_allclose(narrow["heatmap"].sum(1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_openvino_computes_what_the_graph_says(
    model: onnx.ModelProto, feeds: dict[str, np.ndarray], precision: Precision
) -> None:
    pytest.importorskip("openvino")
    made = converted(model, precision, feeds).SerializeToString()
    (ours, theirs) = (runner(backend, made).infer(feeds) for backend in ("onnxruntime", "openvino"))
    for name, value in ours.items():
        # It does in fp32 what the graph does in fp16 and bf16.
        np.testing.assert_allclose(theirs[name], value, atol=0.02 * np.abs(value).max())


@pytest.mark.parametrize("precision", [precision for precision in PRECISIONS if precision != "fp32"])
def test_the_types_are_strong_products_narrow_and_wide_where_it_matters(
    model: onnx.ModelProto, feeds: dict[str, np.ndarray], precision: Precision
) -> None:
    made = converted(model, precision, feeds)
    kinds = types(made)  # ONNX's own inference refuses an operator whose inputs differ in type
    narrow = TensorProto.BFLOAT16 if precision == "bf16" else TensorProto.FLOAT16
    products = [node for node in made.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    assert len(products) == 4
    kinds |= {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    assert all(kinds[name] == narrow for node in products for name in node.input[:2])
    heat, attention = (
        next(node for node in made.graph.node if node.op_type == "Softmax" and node.output[0].startswith(name))
        for name in ("heatmap", "attention")
    )
    assert kinds[heat.input[0]] == TensorProto.FLOAT, "2,048 places are too many for a narrow softmax"
    mean = next(node for node in made.graph.node if node.op_type == "ReduceMean")
    assert kinds[mean.input[0]] == TensorProto.FLOAT
    # −3.4e38 isn't a number of fp16's: what reads it stays fp32. bf16 has it.
    assert kinds[attention.input[0]] == TensorProto.FLOAT
    assert {value.name: value.type.tensor_type.elem_type for value in (*made.graph.input, *made.graph.output)} == {
        "image": TensorProto.UINT8, "mask": TensorProto.FLOAT,
        "kind_logits": TensorProto.FLOAT, "heatmap": TensorProto.FLOAT,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "kind"), [("int8", TensorProto.INT8), ("fp8", TensorProto.FLOAT8E4M3FN)], ids=["int8", "fp8"]
)
def test_weights_are_eight_bits_per_channel_and_symmetric_and_biases_are_not(
    model: onnx.ModelProto, feeds: dict[str, np.ndarray], precision: Precision, kind: int
) -> None:
    made = converted(model, precision, feeds)
    constants = {tensor.name: tensor for tensor in made.graph.initializer}
    weights = [node for node in made.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants]
    assert {tuple(constants[node.input[0]].dims) for node in weights} == {
        (WIDTH, 3, 3, 3), (WIDTH, WIDTH), (WIDTH, 40), (WIDTH, HEAT)
    }  # fmt: skip
    for node in weights:
        values, scale, zero = (constants[name] for name in node.input)
        axis = helper.get_node_attr_value(node, "axis")
        assert values.data_type == zero.data_type == kind
        assert list(scale.dims) == [values.dims[axis]]
        assert not any(zero.raw_data)
    activations = [node for node in made.graph.node if node.op_type == "QuantizeLinear"]
    assert len(activations) == 3  # pixels, pooled, joined (read by two products)
    assert all(constants[node.input[2]].dims == [] for node in activations)
    assert not any(node.op_type == "QuantizeLinear" and "bias" in node.input[0] for node in made.graph.node)


def test_a_mask_is_never_an_activation_to_calibrate_on(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    masked = next(node for node in copy.graph.node if node.op_type == "Gemm")
    masked.input[0] = "masked"
    ranges = calibrate(copy, ["masked", "pooled"], [feeds], percentile=100.0)
    assert ranges["masked"] > 1e38
    to_precision(copy, "int8", [feeds])
    kept = next(node for node in copy.graph.node if node.op_type == "Gemm")
    assert not kept.input[1].endswith("dequantised")


def test_a_percentile_leaves_a_lone_creative_out(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    (all_of_them,) = calibrate(model, ["pixels"], [feeds], percentile=100.0).values()
    assert all_of_them == pytest.approx(feeds["image"].max() / 255)
    dark = {"image": np.repeat(feeds["image"] // 8, 10, axis=0), "mask": np.repeat(feeds["mask"], 10, axis=0)}
    (most,) = calibrate(model, ["pixels"], [dark, {k: v[:1] for k, v in feeds.items()}], percentile=90.0).values()
    assert most < 0.2


def test_eight_bits_without_recorded_creatives_are_refused(model: onnx.ModelProto) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    with pytest.raises(ValueError, match="need recorded creatives to calibrate on"):
        to_precision(copy, "int8", [])


def test_the_image_is_cast_before_it_is_moved(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    cast_images_first(copy)
    onnx.checker.check_model(copy, full_check=True)
    (first,) = [node for node in copy.graph.node if "image" in node.input]
    assert first.op_type == "Cast"
    for name, value in infer(copy, feeds).items():
        np.testing.assert_array_equal(value, infer(model, feeds)[name])


def test_a_norm_behind_a_convolution_disappears_into_it(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    fold_norms(copy)
    onnx.checker.check_model(copy, full_check=True)
    assert not any(node.op_type == "BatchNormalization" for node in copy.graph.node)
    assert not {"gain", "variance"} & {tensor.name for tensor in copy.graph.initializer}
    for name, value in infer(copy, feeds).items():
        np.testing.assert_allclose(value, infer(model, feeds)[name], atol=1e-5)


def test_bf16_is_played_by_rounding_and_other_graphs_are_left_alone(
    model: onnx.ModelProto, feeds: dict[str, np.ndarray]
) -> None:
    assert emulated(model.SerializeToString()) == model.SerializeToString()
    made = onnx.load_from_string(emulated(converted(model, "bf16", feeds).SerializeToString()))
    rounding = [
        n
        for n in made.graph.node
        if n.op_type == "Cast" and helper.get_node_attr_value(n, "to") == TensorProto.BFLOAT16
    ]
    assert len(rounding) >= 4
    assert not any(tensor.data_type == TensorProto.BFLOAT16 for tensor in made.graph.initializer)
