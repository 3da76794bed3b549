"""The rewrite for TensorRT keeps every number and takes away what TensorRT refuses."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from admodels.runtime.tensorrt_graph import for_tensorrt

MODELS = Path(__file__).resolve().parents[3] / "models"
RNG = np.random.default_rng(0)


def graph(nodes: list, inputs: list, outputs: list, constants: dict) -> bytes:
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(made)
    return made.SerializeToString()


def entry(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def operators(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


def types(model: bytes) -> set[int]:
    return {tensor.data_type for tensor in onnx.load_from_string(model).graph.initializer}


def test_widened_weights_become_plain_ones() -> None:
    model = graph(
        [
            helper.make_node("Cast", ["w8"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["wide", "scale"], ["w"]),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ],
        [entry("x", TensorProto.FLOAT, "batch", 4)],
        [entry("y", TensorProto.FLOAT, "batch", 3)],
        {"w8": RNG.integers(-127, 127, (4, 3)).astype(np.int8), "scale": np.float32([[0.1, 0.2, 0.3]])},
    )
    made = for_tensorrt(model)
    assert operators(made) == ["MatMul"]
    assert types(made) == {TensorProto.FLOAT}
    x = RNG.normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        OnnxRuntimeRunner(made).infer({"x": x})["y"], OnnxRuntimeRunner(model).infer({"x": x})["y"]
    )


def test_a_narrow_table_is_widened_before_it_is_gathered() -> None:
    model = graph(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("Gather", ["scale", "ids"], ["scales"]),
            helper.make_node("Cast", ["rows"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["wide", "scales"], ["y"]),
        ],
        [entry("ids", TensorProto.INT64, "batch")],
        [entry("y", TensorProto.FLOAT, "batch", 3)],
        {
            "table": RNG.integers(-127, 127, (9, 3)).astype(np.int8),
            "scale": RNG.random((9, 1)).astype(np.float32),
        },
    )
    made = for_tensorrt(model)
    assert types(made) == {TensorProto.FLOAT}
    ids = np.int64([0, 8, 3])
    np.testing.assert_array_equal(
        OnnxRuntimeRunner(made).infer({"ids": ids})["y"], OnnxRuntimeRunner(model).infer({"ids": ids})["y"]
    )


def test_an_image_is_cast_before_it_is_moved() -> None:
    model = graph(
        [
            helper.make_node("Transpose", ["image"], ["moved"], perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["moved"], ["y"], to=TensorProto.FLOAT),
        ],
        [entry("image", TensorProto.UINT8, "batch", 2, 2, 3)],
        [entry("y", TensorProto.FLOAT, "batch", 3, 2, 2)],
        {},
    )
    made = for_tensorrt(model)
    assert operators(made) == ["Cast", "Transpose", "Cast"]
    image = RNG.integers(0, 255, (1, 2, 2, 3)).astype(np.uint8)
    np.testing.assert_array_equal(
        OnnxRuntimeRunner(made).infer({"image": image})["y"], OnnxRuntimeRunner(model).infer({"image": image})["y"]
    )


def test_quantised_constants_in_front_of_dequantizelinear_stay() -> None:
    model = graph(
        [helper.make_node("DequantizeLinear", ["w8", "s"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])],
        [entry("x", TensorProto.FLOAT, "batch", 4)],
        [entry("y", TensorProto.FLOAT, "batch", 3)],
        {"w8": np.ones((4, 3), np.int8), "s": np.float32(0.5)},
    )
    assert operators(for_tensorrt(model)) == ["DequantizeLinear", "MatMul"]
    assert TensorProto.INT8 in types(for_tensorrt(model))


@pytest.mark.parametrize("name", ["mobilenetv2", "minilm"])
def test_the_shipped_encoders_keep_their_numbers(name: str) -> None:
    model = (MODELS / name / "1" / "model.onnx").read_bytes()
    feeds = {
        "mobilenetv2": {"image": RNG.integers(0, 255, (2, 256, 256, 3)).astype(np.uint8)},
        "minilm": {
            "input_ids": RNG.integers(1000, 20000, (2, 16)),
            "attention_mask": np.int64([[1] * 16, [1] * 5 + [0] * 11]),
        },
    }[name]
    before, after = OnnxRuntimeRunner(model).infer(feeds), OnnxRuntimeRunner(for_tensorrt(model)).infer(feeds)
    assert before.keys() == after.keys()
    for output in before:
        np.testing.assert_allclose(after[output], before[output], atol=1e-5)
    assert types(for_tensorrt(model)) <= {TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.INT32}
