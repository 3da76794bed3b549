"""ONNX Runtime's failures, as the callers of a runner know them: this input, this batch's memory."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from admodels.runtime.runner import EngineError, EngineLostError, EngineMemoryError


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


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0 ; file=cuda_call.cc", EngineLostError),
        ("CUDA error cudaErrorECCUncorrectable: uncorrectable ECC error encountered", EngineLostError),
        ("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc", EngineMemoryError),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0", EngineMemoryError),
        ("Got invalid dimensions for input: c5", EngineError),
    ],
)
def test_an_error_of_cuda_that_sticks_is_a_lost_engine(
    expander: OnnxRuntimeRunner, monkeypatch: pytest.MonkeyPatch, said: str, kind: type[Exception]
) -> None:
    class Session:
        def run(self, *_: object) -> None:
            raise RuntimeError(said)

    monkeypatch.setattr(expander, "_session", Session())
    monkeypatch.setattr(expander, "backend", "onnxruntime-cuda")
    with pytest.raises((EngineError, EngineLostError)) as caught:
        expander.infer(feeds(3))
    assert type(caught.value) is kind
    assert said not in str(caught.value)
    monkeypatch.setattr(expander, "backend", "onnxruntime")
    with pytest.raises(EngineError):
        expander.infer(feeds(3))


def test_a_missing_input_and_a_broken_model_are_named(expander: OnnxRuntimeRunner) -> None:
    with pytest.raises(EngineError, match="'shape'"):
        expander.infer({"x": np.ones(1, np.float32)})
    with pytest.raises(EngineError, match="can't load"):
        OnnxRuntimeRunner(b"not a model")
