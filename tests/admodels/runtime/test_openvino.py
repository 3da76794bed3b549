"""OpenVINO gives what ONNX Runtime gives, on the shipped bundles."""

import os
from pathlib import Path

import numpy as np
import pytest

from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from admodels.runtime.runner import EngineError

try:
    from admodels.runtime.openvino import OpenVinoRunner
except ImportError:
    if os.environ.get("CI"):
        raise
    pytest.skip("OpenVINO isn't installed", allow_module_level=True)

MODELS = Path(__file__).resolve().parents[3] / "models"
RNG = np.random.default_rng(0)
FEEDS = {
    "mobilenetv2": {"image": RNG.integers(0, 255, (3, 256, 256, 3)).astype(np.uint8)},
    # 8-bit weights: left alone, OpenVINO would quantise the activations too.
    "minilm": {
        "input_ids": RNG.integers(1000, 20000, (3, 32)),
        "attention_mask": np.int64([[1] * 32, [1] * 5 + [0] * 27, [1] * 31 + [0]]),
    },
    "dbafn": {
        "attention_mask": np.ones((3, 16), np.int64),
        "tokens": RNG.normal(size=(3, 16, 384)).astype(np.float32),
        "c3": RNG.normal(size=(3, 32, 32, 32)).astype(np.float32),
        "c4": RNG.normal(size=(3, 96, 16, 16)).astype(np.float32),
        "c5": RNG.normal(size=(3, 320, 8, 8)).astype(np.float32),
    },
}


@pytest.mark.parametrize("name", FEEDS)
def test_it_agrees_with_onnx_runtime_and_with_itself_alone(name: str) -> None:
    model, feeds = (MODELS / name / "1" / "model.onnx").read_bytes(), FEEDS[name]
    runner, reference = OpenVinoRunner(model, threads=1), OnnxRuntimeRunner(model, threads=1).infer(feeds)
    assert sorted(runner.inputs) == sorted(feeds)
    together = runner.infer(feeds)
    alone = runner.infer({key: value[:1] for key, value in feeds.items()})
    for output, value in reference.items():
        np.testing.assert_allclose(together[output], value, atol=1e-4)
        np.testing.assert_allclose(alone[output], value[:1], atol=1e-3)


def test_outputs_belong_to_the_caller() -> None:
    runner = OpenVinoRunner((MODELS / "dbafn" / "1" / "model.onnx").read_bytes(), threads=1)
    first = runner.infer(FEEDS["dbafn"])
    kept = {name: value.copy() for name, value in first.items()}
    runner.infer({key: value * 0 for key, value in FEEDS["dbafn"].items()})
    for name, value in first.items():
        np.testing.assert_array_equal(value, kept[name])


def test_errors_name_the_input_and_never_quote_one() -> None:
    runner = OpenVinoRunner((MODELS / "dbafn" / "1" / "model.onnx").read_bytes(), threads=1)
    with pytest.raises(EngineError, match="needs an input named 'attention_mask'"):
        runner.infer({key: value for key, value in FEEDS["dbafn"].items() if key != "attention_mask"})
    with pytest.raises(EngineError, match="OpenVINO failed: "):
        runner.infer({**FEEDS["dbafn"], "c5": np.zeros((3, 7, 8, 8), np.float32)})
    with pytest.raises(EngineError, match="can't load"):
        OpenVinoRunner(b"no graph")
