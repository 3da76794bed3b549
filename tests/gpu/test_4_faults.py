"""Fourth: memory that runs out splits the batch; an error that sticks ends the process."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from admodels.contract.bundle import MODEL
from admodels.runtime import cuda
from admodels.runtime.engine_from_onnx import BuildOptions, Range, build_engine
from admodels.runtime.runner import EngineError, EngineMemoryError

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]


def test_no_memory_for_an_engine_is_told_and_passes(trt: Any, bundles: Any, feeds_for: Any) -> None:
    from admodels.runtime.tensorrt import TensorRtRunner

    bundle = bundles["dbafn"]
    profile = {"batch": Range(1, 8, 64), "length": Range(1, 64, 64)}
    engine = build_engine(trt, bundle.files[MODEL], bundle.manifest.inputs, [profile], BuildOptions())
    free, _ = cuda.checked(cuda.cudart.cudaMemGetInfo())
    held = cuda.checked(cuda.cudart.cudaMalloc(free - (8 << 20)))
    try:
        with pytest.raises((EngineMemoryError, EngineError)):
            TensorRtRunner(trt, engine.plan)
    finally:
        cuda.checked(cuda.cudart.cudaFree(held))
    runner = TensorRtRunner(trt, engine.plan)
    assert np.isfinite(runner.infer(feeds_for(bundle, 2))["score"]).all()
    runner.close()


def test_an_input_that_is_too_large_is_refused_and_the_next_one_runs(trt: Any, bundles: Any, feeds_for: Any) -> None:
    from admodels.runtime.tensorrt import TensorRtRunner

    bundle = bundles["dbafn"]
    profile = {"batch": Range(1, 4, 4), "length": Range(1, 64, 64)}
    engine = build_engine(trt, bundle.files[MODEL], bundle.manifest.inputs, [profile], BuildOptions())
    runner = TensorRtRunner(trt, engine.plan)
    with pytest.raises(EngineError, match="takes shapes up to"):
        runner.infer(feeds_for(bundle, 5))
    assert len(runner.infer(feeds_for(bundle, 3))["score"]) == 3
    runner.close()


STICKY = """
from admodels.runtime import cuda
from admodels.runtime.runner import EngineLostError
stream = cuda.new_stream()
kernel = '''extern "C" __global__ void wild(int *p) { p[(size_t)1 << 40] = 1; }'''
from cuda.bindings import driver, nvrtc
def ok(result):
    assert int(result[0]) == 0, result[0]
    return result[1] if len(result) == 2 else result[1:]
program = ok(nvrtc.nvrtcCreateProgram(kernel.encode(), b"wild.cu", 0, [], []))
major, minor = cuda.compute_capability().split(".")
ok(nvrtc.nvrtcCompileProgram(program, 1, [f"--gpu-architecture=sm_{major}{minor}".encode()]))
size = ok(nvrtc.nvrtcGetCUBINSize(program))
code = b" " * size
ok(nvrtc.nvrtcGetCUBIN(program, code))
module = ok(driver.cuModuleLoadData(code))
function = ok(driver.cuModuleGetFunction(module, b"wild"))
import numpy as np
argument = np.array([0], dtype=np.uint64)
pointers = np.array([argument.ctypes.data], dtype=np.uint64)
ok(driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, int(stream), pointers.ctypes.data, 0))
try:
    cuda.wait(stream)
except EngineLostError as error:
    print("lost:", error)
try:
    cuda.Buffer(np.dtype("u1"), 16)
except EngineLostError:
    print("and it sticks")
"""


def test_an_illegal_address_is_a_lost_engine_and_sticks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STICKY], capture_output=True, text=True, timeout=120, check=False, cwd="."
    )
    assert "lost: CUDA says cudaErrorIllegalAddress" in done.stdout, done.stderr
    assert "and it sticks" in done.stdout
