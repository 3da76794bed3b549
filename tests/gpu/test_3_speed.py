"""Third: how fast, in one run. Figures are noted before they are judged.

Wall-clock medians hold what a worker pays for (copies in and out, waiting); medians by CUDA events are of the device
alone, inputs on it.
"""

import functools
import statistics
import time
from typing import Any

import pytest

from admodels.contract.bundle import MODEL
from admodels.runtime.engine_from_onnx import BuildOptions, Range, build_engine
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from admodels.sizes import paper_size
from tests.gpu import papers
from tests.gpu.conftest import SHIPPED

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
ROUNDS = papers.ROUNDS
PEAK_TFLOPS = {"9.0": 989.5, "8.0": 312.0}
"""Dense fp16 of H100/H200 (SXM) and A100 by NVIDIA's data sheets, by compute capability."""


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
    from admodels.runtime.tensorrt import TensorRtRunner

    bundle = bundles[name]
    profile = {"batch": Range(1, 32, 64), "length": Range(1, 64, 64)}
    engine = build_engine(trt, bundle.files[MODEL], bundle.manifest.inputs, [profile], BuildOptions())
    runner = TensorRtRunner(trt, engine.plan)
    runners: dict[str, Any] = {"engine": runner, "onnxruntime": OnnxRuntimeRunner(bundle.files[MODEL])}
    if OnnxRuntimeRunner.can_use_gpu():
        runners["onnxruntime-cuda"] = OnnxRuntimeRunner(bundle.files[MODEL], gpu=True)
    figures: dict[str, dict[str, float | None]] = {}
    for rows in papers.BATCHES:
        feeds = feeds_for(bundle, rows)
        times: dict[str, float | None] = {
            label: median_ms(functools.partial(one.infer, feeds)) for label, one in runners.items()
        }
        times["engine, on the device"] = papers.on_device_ms(runner, feeds, graph=False)
        times["engine+graph, on the device"] = papers.on_device_ms(runner, feeds, graph=True)
        figures[str(rows)] = times
    results.note("speed_ms", **{name: figures})
    runner.close()
    gpu, cpu = figures["32"]["engine"], figures["32"]["onnxruntime"]
    assert gpu is not None
    assert cpu is not None
    assert gpu < cpu, "a GPU that is slower than the CPU"


@pytest.mark.parametrize("name", papers.NAMES)
def test_the_papers_sizes(request: pytest.FixtureRequest, results: Any, name: str) -> None:
    """torch eager and compiled, ONNX Runtime by CUDA and the engine, all in fp16, at every batch; and the share of what
    the GPU could multiply in that time.

    torch by autocast: pixels are normalised in fp32 inside the model, which `half()` would hand to fp16 layers.
    """
    torch = pytest.importorskip("torch")
    from admodels.runtime import cuda

    made = papers.paper(name, "fp16")
    module = made.module.cuda()
    peak, gflops = PEAK_TFLOPS.get(cuda.compute_capability() or ""), paper_size(name).gflops  # type: ignore[arg-type]
    figures: dict[str, dict[str, Any]] = {str(rows): {} for rows in papers.BATCHES}
    errors: dict[str, str] = {}

    def keep(label: str, rows: int, ms: float | None) -> None:
        reached = None if not ms else round(gflops * rows / ms, 3)  # TFLOP/s
        share = None if reached is None or peak is None else round(reached / peak, 4)
        figures[str(rows)][label] = {"ms": ms, "tflops": reached, "share_of_peak": share}
        told = {"gflops": gflops, "peak_tflops": peak, "by_batch": figures, "failed": errors}
        results.note("paper_speed", **{name: told})

    for label, model in (("torch", module), ("torch.compile", torch.compile(module))):
        try:
            for rows in papers.BATCHES:
                given = {key: torch.from_numpy(value).cuda() for key, value in made.feeds(rows).items()}
                keep(label, rows, torch_ms(torch, model, given))
        except Exception as error:  # noqa: BLE001  # its compiler raises anything; the others' figures count without it
            errors[label] = f"{type(error).__name__}: {error}"[:300]
    if OnnxRuntimeRunner.can_use_gpu():
        session = OnnxRuntimeRunner(made.model, gpu=True)
        for rows in papers.BATCHES:
            keep("onnxruntime-cuda, with copies", rows, median_ms(functools.partial(session.infer, made.feeds(rows))))
    runner = papers.runner(request.getfixturevalue("trt"), made)
    for rows in papers.BATCHES:
        feeds = made.feeds(rows)
        keep("engine, with copies", rows, median_ms(functools.partial(runner.infer, feeds)))
        keep("engine", rows, papers.on_device_ms(runner, feeds, graph=False))
        keep("engine+graph", rows, papers.on_device_ms(runner, feeds, graph=True))
    runner.close()
    assert figures["32"]["engine"]["ms"] < figures["32"]["torch"]["ms"], "an engine that is slower than torch"


def torch_ms(torch: Any, model: Any, given: Any) -> float:
    """Median milliseconds by CUDA events, in fp16."""
    starts, ends = ([torch.cuda.Event(enable_timing=True) for _ in range(ROUNDS)] for _ in range(2))
    with torch.no_grad(), torch.autocast("cuda", torch.float16):
        for _ in range(5):
            model(**given)
        for begin, end in zip(starts, ends, strict=True):
            begin.record()
            model(**given)
            end.record()
        torch.cuda.synchronize()
    return round(statistics.median(begin.elapsed_time(end) for begin, end in zip(starts, ends, strict=True)), 4)
