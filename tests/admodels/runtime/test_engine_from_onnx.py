"""Engines are built for real, without a GPU, by TensorRT-RTX."""

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from admodels.contract.bundle import MODEL, load_bundle
from admodels.contract.manifest import TensorSpec
from admodels.runtime import tensorrt_module
from admodels.runtime.engine_from_onnx import BuildOptions, Range, build_engine
from admodels.runtime.runner import EngineError
from admodels.runtime.tensorrt_module import TensorRtUnavailableError

MODELS = Path(__file__).resolve().parents[3] / "models"
PROFILES = (
    {"batch": Range(1, 1, 4), "length": Range(1, 64, 64)},
    {"batch": Range(1, 16, 16), "length": Range(1, 64, 64)},
)


@pytest.fixture(scope="module")
def trt() -> Any:
    try:
        return tensorrt_module.load("tensorrt_rtx")
    except TensorRtUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("name", ["dbafn", "mobilenetv2", "minilm"])
def test_shipped_bundles_become_engines(trt: Any, name: str) -> None:
    bundle = load_bundle(MODELS / name / "1")
    engine = build_engine(trt, bundle.files[MODEL], bundle.manifest.inputs, PROFILES, BuildOptions(sm="8.6"))
    assert sorted(engine.inputs) == sorted(spec.name for spec in bundle.manifest.inputs)
    assert sorted(engine.outputs) == sorted(spec.name for spec in bundle.manifest.outputs)
    assert len(engine.plan) > 1_000_000
    assert engine.layers > 50


def small(trt: Any, **more: Any) -> Any:
    bundle = load_bundle(MODELS / "dbafn" / "1")
    options = more.pop("options", BuildOptions(sm="8.0"))
    profiles = more.pop("profiles", PROFILES[:1])
    inputs = more.pop("inputs", bundle.manifest.inputs)
    return build_engine(trt, more.pop("model", bundle.files[MODEL]), inputs, profiles, options, **more)


def test_it_tells_how_far_it_is_and_can_be_stopped(trt: Any) -> None:
    seen: list[tuple[str, int, int]] = []

    def step(phase: str, number: int, steps: int) -> bool:
        seen.append((phase, number, steps))
        return len(seen) < 2

    with pytest.raises(EngineError, match="built no engine"):
        small(trt, progress=step)
    assert len(seen) >= 2
    assert all(number < steps for _, number, steps in seen)


@pytest.mark.parametrize(
    ("options", "said"),
    [(BuildOptions(sm="9.9"), r"knows no compute capability 9\.9; it builds for .*8\.6")],
)
def test_a_target_that_it_doesnt_know(trt: Any, options: BuildOptions, said: str) -> None:
    with pytest.raises(TensorRtUnavailableError, match=said):
        small(trt, options=options)


def test_a_graph_that_is_none(trt: Any) -> None:
    with pytest.raises(EngineError, match="it is no ONNX"):
        small(trt, model=b"\x08garbage")
    with pytest.raises(EngineError, match="at least one output"):
        small(trt, model=b"")


def test_a_profile_without_a_range(trt: Any) -> None:
    with pytest.raises(EngineError, match="the profile has no range for length"):
        small(trt, profiles=({"batch": Range(1, 1, 1)},))


def test_an_input_that_the_graph_lacks(trt: Any) -> None:
    spec = TensorSpec(name="c9", dtype="float32", shape=("batch", 3))
    with pytest.raises(EngineError):
        small(trt, inputs=(spec,))


def test_options_reach_the_builder(trt: Any) -> None:
    engine = small(trt, options=BuildOptions(sm="8.6", workspace_mib=64, hardware="ampere+"))
    assert engine.plan


def watched(trt: Any) -> tuple[ModuleType, list[Any]]:
    """The module, and the configurations of what it builds."""
    configs = []

    class Builder(trt.Builder):
        def create_builder_config(self) -> Any:
            configs.append(super().create_builder_config())
            return configs[-1]

    module = ModuleType("tensorrt_rtx")
    module.__dict__.update({**vars(trt), "Builder": Builder})
    return module, configs


def test_fp32_is_multiplied_in_fp32_and_graphs_can_be_captured(trt: Any) -> None:
    module, configs = watched(trt)
    assert trt.Builder(tensorrt_module.logger(trt)).create_builder_config().get_flag(trt.BuilderFlag.TF32), "by default"
    assert small(module).plan
    assert not configs[0].get_flag(trt.BuilderFlag.TF32)
    assert configs[0].get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)


def test_a_loop_is_built_although_it_allocates_as_it_runs(trt: Any) -> None:
    module, configs = watched(trt)
    inputs = (TensorSpec(name="x", dtype="float32", shape=("length", 2, 4)),)
    assert small(module, model=lstm(), inputs=inputs, profiles=({"length": Range(1, 8, 8)},)).plan
    assert not configs[0].get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)


def lstm() -> bytes:
    """x L×2×4 → the last state of one LSTM, which TensorRT makes a loop of."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.normal(size=(1, 12, 4)).astype(np.float32), "w"),
        numpy_helper.from_array(random.normal(size=(1, 12, 3)).astype(np.float32), "r"),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["length", 2, 4])
    made = helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 2, 3])
    node = helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], hidden_size=3)
    model = helper.make_model(
        helper.make_graph([node], "lstm", [given], [made], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    return bytes(model.SerializeToString())


def test_a_range_is_checked() -> None:
    with pytest.raises(ValueError, match="least"):
        Range(2, 1, 4)


def test_a_module_that_builds_for_its_own_gpu_alone_says_so(trt: Any) -> None:
    other = ModuleType("tensorrt")
    other.__dict__.update({name: value for name, value in vars(trt).items() if name != "ComputeCapability"})
    other.__dict__.update(__name__="tensorrt", __version__="11.4.0")
    with pytest.raises(TensorRtUnavailableError, match="builds for the GPU it finds"):
        small(other)


def test_no_module_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_module, "ORDER", ("no_tensorrt_here",))
    with pytest.raises(TensorRtUnavailableError, match=r"adscore\[tensorrt\]"):
        tensorrt_module.load()


def test_what_tensorrt_says_reaches_the_log(trt: Any, caplog: pytest.LogCaptureFixture) -> None:
    log = tensorrt_module.logger(trt)
    log.errors.clear()
    log.log(trt.ILogger.Severity.ERROR, "no such layer")
    log.log(trt.ILogger.Severity.WARNING, "slow path")
    log.log(trt.ILogger.Severity.VERBOSE, "chatter")
    assert [(record.name, record.levelname, record.message) for record in caplog.records] == [
        ("tensorrt", "ERROR", "no such layer"),
        ("tensorrt", "WARNING", "slow path"),
    ]
    assert list(log.errors) == ["no such layer"]
    assert tensorrt_module.logger(trt) is log, "TensorRT ignores every logger but the first"
