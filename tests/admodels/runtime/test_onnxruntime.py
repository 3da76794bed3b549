"""ONNX Runtime's failures, as the callers of a runner know them: this input, this batch's memory."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from admodels.runtime.runner import EngineError, EngineMemoryError


@pytest.fixture(scope="module")
def expander() -> OnnxRuntimeRunner:
    """A graph whose output is as large as its input says."""
    graph = helper.make_graph(
        [helper.make_node("Expand", ["x", "shape"], ["y"])],
        "expand",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return OnnxRuntimeRunner(model.SerializeToString(), threads=1)


def feeds(size: int) -> dict[str, np.ndarray]:
    return {"x": np.ones(1, np.float32), "shape": np.array([size])}


def test_no_memory_is_told_from_other_failures_and_costs_the_next_run_nothing(expander: OnnxRuntimeRunner) -> None:
    with pytest.raises(EngineMemoryError, match="no memory for this batch"):
        expander.infer(feeds(10**14))
    assert expander.infer(feeds(3))["y"].tolist() == [1.0, 1.0, 1.0]


def test_another_failure_tells_its_class_and_not_its_text(expander: OnnxRuntimeRunner) -> None:
    with pytest.raises(EngineError) as caught:
        expander.infer(feeds(3) | {"x": np.array(["secret"])})
    assert not isinstance(caught.value, EngineMemoryError)
    assert "secret" not in str(caught.value)


def test_a_missing_input_and_a_broken_model_are_named(expander: OnnxRuntimeRunner) -> None:
    with pytest.raises(EngineError, match="'shape'"):
        expander.infer({"x": np.ones(1, np.float32)})
    with pytest.raises(EngineError, match="can't load"):
        OnnxRuntimeRunner(b"not a model")
