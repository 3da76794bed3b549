"""First: what is here, and does TensorRT run on this GPU at all?"""

from typing import Any

import numpy as np
import pytest

from admodels.contract.bundle import MODEL
from admodels.runtime import cuda, tensorrt_module
from admodels.runtime.engine_from_onnx import BuildOptions, Range, build_engine
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from tests.gpu.conftest import output

pytestmark = pytest.mark.gpu


def test_what_is_here(results: Any) -> None:
    libraries = [line for line in output("ldconfig", "-p").splitlines() if "nvinfer" in line]
    results.note(
        "look", nvidia_smi=output("nvidia-smi"), nvinfer=libraries, compute_capability=cuda.compute_capability()
    )
    assert cuda.compute_capability()


@pytest.mark.parametrize("sm", ["current", "8.0"])
def test_a_small_engine_is_built_loaded_and_run(trt: Any, bundles: Any, feeds_for: Any, results: Any, sm: str) -> None:
    from admodels.runtime.tensorrt import TensorRtRunner

    bundle = bundles["dbafn"]
    profile = {"batch": Range(1, 8, 16), "length": Range(1, 64, 64)}
    told = {"module": trt.__name__, "version": tensorrt_module.version(trt)}
    try:
        engine = build_engine(trt, bundle.files[MODEL], bundle.manifest.inputs, [profile], BuildOptions(sm=sm))
        runner = TensorRtRunner(trt, engine.plan)
        feeds = feeds_for(bundle, 3)
        got, wanted = runner.infer(feeds), OnnxRuntimeRunner(bundle.files[MODEL]).infer(feeds)
        runner.close()
    except Exception as error:
        results.note("runs", **{sm: {**told, "runs": False, "error": f"{type(error).__name__}: {error}"}})
        raise
    results.note("runs", **{sm: {**told, "runs": True}})
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, atol=1e-3)
