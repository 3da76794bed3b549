"""Every name of TensorRT's that the code uses is one of TensorRT 11's and of TensorRT-RTX's.

TensorRT 11's own bindings are asked, imported against stubs where their libraries would be.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.admodels.runtime.stub_library import stub_library

RUNTIME = Path(__file__).resolve().parents[3] / "admodels" / "runtime"
C_FUNCTIONS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry",
    "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins",
)  # fmt: skip
LIBRARIES = {"libnvinfer.so.11": C_FUNCTIONS, "libnvinfer_plugin.so.11": (), "libnvonnxparser.so.11": ()}

HOLD: dict[str, dict[str, str]] = {
    "engine_from_onnx.py": {
        "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "config": "IBuilderConfig",
        "profile": "IOptimizationProfile", "tensor": "ITensor",
    },
    "tensorrt.py": {"_runtime": "Runtime", "_engine": "ICudaEngine", "context": "IExecutionContext"},
    "tensorrt_module.py": {},
}  # fmt: skip
"""File → what its variables and attributes hold of TensorRT's."""
UNNAMED = {
    "IProgressMonitor.phase_start", "IProgressMonitor.phase_finish", "IProgressMonitor.step_complete", "ILogger.log",
    "ITimingCache.serialize", "ParserError.desc", "DataType.name", "__version__",
}  # fmt: skip
"""Used without a variable that would say of what: overridden, or on a call's result."""
ONLY_RTX = {"ComputeCapability", "IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability"}
"""Behind a question whether the module has ComputeCapability."""

ASK = """
import importlib, json, sys
trt = importlib.import_module(sys.argv[1])
def has(path):
    at = trt
    for name in path.split("."):
        if not hasattr(at, name):
            return False
        at = getattr(at, name)
    return True
names = json.load(sys.stdin)
print(json.dumps({"version": trt.__version__, "missing": [name for name in names if not has(name)]}))
"""


def names_used() -> set[str]:
    """Dotted names below TensorRT's module, from the runtime's source."""
    return {name for file, holds in HOLD.items() for name in _names(RUNTIME / file, holds)} | UNNAMED


def _names(path: Path, holds: dict[str, str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        chain = [node.attr]
        inner: ast.expr = node.value
        while isinstance(inner, ast.Attribute) and inner.attr not in ("_trt", *holds):
            chain.insert(0, inner.attr)
            inner = inner.value
        holder = inner.attr if isinstance(inner, ast.Attribute) else getattr(inner, "id", "")
        if holder in ("trt", "_trt") and chain[0] not in ("__name__",):
            yield ".".join(chain)
        elif holder in holds:
            yield f"{holds[holder]}.{chain[0]}"


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stubs")
    for name, functions in LIBRARIES.items():
        (folder / name).write_bytes(stub_library(name, functions))
    return folder


def ask(module: str, names: set[str], libraries: Path | None = None) -> dict[str, object]:
    env = {**os.environ, **({} if libraries is None else {"LD_LIBRARY_PATH": str(libraries)})}
    done = subprocess.run(
        [sys.executable, "-c", ASK, module], input=json.dumps(sorted(names)), capture_output=True, text=True,
        timeout=120, env=env, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_the_names_are_found_in_the_source() -> None:
    names = names_used()
    assert {
        "Builder", "OnnxParser", "Runtime", "nptype", "BuilderFlag.VERSION_COMPATIBLE", "TensorIOMode.INPUT",
        "MemoryPoolType.WORKSPACE", "HardwareCompatibilityLevel.AMPERE_PLUS", "ILogger.Severity.INTERNAL_ERROR",
        "Builder.build_serialized_network", "IBuilderConfig.set_timing_cache",
        "ICudaEngine.get_tensor_profile_shape", "IExecutionContext.execute_async_v3",
        "IExecutionContext.set_optimization_profile_async", "Runtime.deserialize_cuda_engine",
    } <= names  # fmt: skip


def test_tensorrt_11_has_every_name(libraries: Path) -> None:
    told = ask("tensorrt_bindings", names_used(), libraries)
    assert str(told["version"]).startswith("11.")
    assert set(told["missing"]) <= ONLY_RTX  # type: ignore[call-overload]


def test_tensorrt_rtx_has_every_name() -> None:
    assert ask("tensorrt_rtx", names_used())["missing"] == []


def test_a_name_of_an_older_tensorrt_would_be_found_out(libraries: Path) -> None:
    gone = {"BuilderFlag.FP16", "Builder.platform_has_fast_fp16", "ICudaEngine.device_memory_size"}
    assert set(ask("tensorrt_bindings", gone, libraries)["missing"]) == gone  # type: ignore[call-overload]
