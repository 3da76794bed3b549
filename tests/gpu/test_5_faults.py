"""Fifth: memory that runs out splits the batch, NaN never leaves, an error that sticks ends the process."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from admodels.contract.bundle import MODEL
from admodels.runtime import cuda
from admodels.runtime.engine_from_onnx import BuildOptions, Range, build_engine
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from admodels.runtime.runner import EngineError, EngineMemoryError
from tests.gpu import scoring

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


def test_what_is_not_a_number_never_leaves(trt: Any, bundles: Any, feeds_for: Any, results: Any) -> None:
    """The row whose features are NaN has no part; its neighbours have theirs."""
    from admodels.runtime.tensorrt import TensorRtRunner
    from worker.scoring.parts import parts

    told = {}
    for name in ("dbafn", "fgmfn", "adfusion"):
        bundle = bundles[name]
        profile = {"batch": Range(1, 4, 4), "length": Range(1, 64, 64)}
        engine = build_engine(trt, bundle.files[MODEL], bundle.manifest.inputs, [profile], BuildOptions())
        runner, feeds = TensorRtRunner(trt, engine.plan), feeds_for(bundle, 3)
        for values in feeds.values():
            if values.dtype == np.float32:
                values[1] = np.nan
        made = parts(bundle.manifest, runner.infer(feeds), 3)
        runner.close()
        told[name] = [part is not None for part in made]
    results.note("not_a_number", **told)
    assert told == {name: [True, False, True] for name in told}


def test_a_batch_that_has_no_room_is_scored_in_parts(bundles: Any, results: Any) -> None:
    """By ONNX Runtime's CUDA, which allocates as it runs; TensorRT's runner has all its memory from the start."""
    if not OnnxRuntimeRunner.can_use_gpu():
        pytest.skip("the ONNX Runtime that is installed is the one for CPUs")
    made = scoring.engines(bundles, lambda bundle: OnnxRuntimeRunner(bundle.files[MODEL], gpu=True))
    blank = [bytes(height * width * 3) for height, width in made.sizes]
    one = scoring.prepared(made, blank)
    free, _ = cuda.checked(cuda.cudart.cudaMemGetInfo())
    held = cuda.checked(cuda.cudart.cudaMalloc(free - (64 << 20)))
    told: list[int] = []
    try:
        scored = made.score([one] * 2_000, told.append)
    finally:
        cuda.checked(cuda.cudart.cudaFree(held))
    failed = sum(bool(item.errors) for item in scored)
    results.note("no_room", rows=2_000, did_not_fit=told, failed=failed)
    assert told, "two thousand creatives fitted into 64 MiB"
    assert all(item.errors or set(item.parts) == set(scoring.HEADS) for item in scored)
    assert not made.score([one])[0].errors, "with room again it scores"


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
