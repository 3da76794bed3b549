"""Third: how fast, in one run: ONNX Runtime on the CPU and by CUDA, the engine by itself, and with captured graphs.

Medians of wall-clock times around calls that wait for the device, after warming up; copies in and out included, since a
worker pays for them.
"""

import functools
import statistics
import time
from typing import Any

import pytest

from admodels.contract.bundle import MODEL
from admodels.runtime.engine_from_onnx import BuildOptions, Range, build_engine
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from tests.gpu.conftest import SHIPPED

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
ROUNDS = 30


def median_ms(run: Any) -> float:
    """Median over ROUNDS calls, in milliseconds."""
    for _ in range(5):
        run()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        times.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(times), 4)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_bundle(trt: Any, bundles: Any, feeds_for: Any, results: Any, name: str) -> None:
    from admodels.runtime import tensorrt
    from admodels.runtime.tensorrt import TensorRtRunner

    bundle = bundles[name]
    profile = {"batch": Range(1, 32, 64), "length": Range(1, 64, 64)}
    engine = build_engine(trt, bundle.files[MODEL], bundle.manifest.inputs, [profile], BuildOptions())
    with_graphs = TensorRtRunner(trt, engine.plan)
    kept, tensorrt.MAX_GRAPHS = tensorrt.MAX_GRAPHS, 0
    without = TensorRtRunner(trt, engine.plan)
    runners: dict[str, Any] = {"engine": without, "onnxruntime": OnnxRuntimeRunner(bundle.files[MODEL])}
    if OnnxRuntimeRunner.can_use_gpu():
        runners["onnxruntime-cuda"] = OnnxRuntimeRunner(bundle.files[MODEL], gpu=True)
    figures: dict[str, dict[str, float]] = {}
    for rows in (1, 8, 32, 64):
        feeds = feeds_for(bundle, rows)
        tensorrt.MAX_GRAPHS = 0
        times = {label: median_ms(functools.partial(runner.infer, feeds)) for label, runner in runners.items()}
        tensorrt.MAX_GRAPHS = kept
        times["engine+graphs"] = median_ms(functools.partial(with_graphs.infer, feeds))
        figures[str(rows)] = times
    results.note("speed_ms", **{name: figures})
    for runner in (with_graphs, without):
        runner.close()
    assert figures["32"]["engine+graphs"] < figures["32"]["onnxruntime"], "a GPU that is slower than the CPU"


@pytest.mark.parametrize("name", ["dbafn", "fgmfn", "mvla", "deepm2ad", "adfusion"])
def test_torch_at_the_papers_size(results: Any, name: str) -> None:
    """torch eager and compiled in fp16, by CUDA events: what an engine has to beat.

    By autocast: pixels are normalised in fp32 inside the model, which `half()` would hand to fp16 layers as they are.
    """
    torch = pytest.importorskip("torch")
    from export.served import inputs_of, served
    from export.untrained import recorded, spec_of
    from tests.gpu.conftest import MODELS

    spec = spec_of("paper", name, MODELS)  # type: ignore[arg-type]
    model = served(spec).cuda()
    arrays = recorded(spec, MODELS)
    times: dict[str, float] = {}
    for label, module in (("eager", model), ("compiled", torch.compile(model))):
        inputs = {key: torch.from_numpy(arrays[key]).cuda() for key in inputs_of(spec)}
        with torch.no_grad(), torch.autocast("cuda", torch.float16):
            for _ in range(5):
                module(**inputs)
            starts, ends = ([torch.cuda.Event(enable_timing=True) for _ in range(ROUNDS)] for _ in range(2))
            for begin, end in zip(starts, ends, strict=True):
                begin.record()
                module(**inputs)
                end.record()
            torch.cuda.synchronize()
        times[label] = statistics.median(begin.elapsed_time(end) for begin, end in zip(starts, ends, strict=True))
    results.note("torch_ms", **{name: {"rows": len(next(iter(arrays.values()))), **times}})
