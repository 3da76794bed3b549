"""Narrow storage: close numbers, fewer bytes, and plain fp32 arithmetic once a runtime has loaded the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.weights import quantise, store_as_fp16, store_as_int8

VOCABULARY, WIDTH = 50, 32


@pytest.fixture
def model() -> onnx.ModelProto:
    """ids → rows of a table → MatMul → Add of a small bias."""
    generator = np.random.default_rng(0)
    table = generator.normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    matrix = generator.normal(size=(WIDTH, 64)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "matrix"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, 64])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(matrix, "matrix"),
            numpy_helper.from_array(np.ones(64, np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def infer(model: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"ids": np.array([[0, 7, 49], [3, 3, 1]])})[0]


def stored(model: onnx.ModelProto) -> dict[str, str]:
    return {t.name: helper.tensor_dtype_to_np_dtype(t.data_type).name for t in model.graph.initializer}


def test_int8_is_close_and_a_quarter(model: onnx.ModelProto) -> None:
    exact, size = infer(model), model.ByteSize()
    store_as_int8(model)
    onnx.checker.check_model(model)
    names = stored(model)
    assert names["matrix.int8"] == names["table.int8"] == "int8"
    assert names["bias"] == "float32"
    assert model.ByteSize() < 0.4 * size
    narrow = infer(model)
    assert np.corrcoef(exact.ravel(), narrow.ravel())[0, 1] > 0.9998
    assert np.abs(exact - narrow).max() > 0


def test_fp16_is_lossless_for_weights_that_came_as_fp16(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        rounded = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    exact = infer(model)
    store_as_fp16(model)
    onnx.checker.check_model(model)
    assert stored(model)["matrix.fp16"] == "float16"
    np.testing.assert_array_equal(infer(model), exact)


def test_fp16_leaves_what_would_overflow(model: onnx.ModelProto) -> None:
    next(t for t in model.graph.initializer if t.name == "matrix").CopyFrom(
        numpy_helper.from_array(np.full((WIDTH, 64), 1e6, np.float32), "matrix")
    )
    store_as_fp16(model)
    assert stored(model)["matrix"] == "float32"


def test_onnx_runtime_widens_matrices_once_when_it_loads(model: onnx.ModelProto, tmp_path: Path) -> None:
    store_as_int8(model)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(tmp_path / "optimised.onnx").graph
    made = {name: node.op_type for node in optimised.node for name in node.output}
    matmul = next(node for node in optimised.node if "MatMul" in node.op_type)
    assert matmul.input[1] not in made, "the matrix is widened again in every run"


def test_quantise_maps_the_largest_of_each_channel_to_127() -> None:
    weights = np.array([[1.0, -4.0, 0.0], [0.5, 2.0, 0.0]], np.float32)
    values, scale = quantise(weights, axis=0)
    assert values.tolist() == [[127, -127, 0], [64, 64, 0]]
    np.testing.assert_allclose(scale, [[1 / 127, 4 / 127, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(values * scale, weights, atol=4 / 127 / 2 + 1e-6)


def test_a_table_gathered_by_column_is_refused(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("axis", 1))
    with pytest.raises(ValueError, match="gathered along axis 1"):
        store_as_int8(model)
