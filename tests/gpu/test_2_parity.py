"""Second: does the engine compute what ONNX Runtime and torch compute, alone and in a batch?

On ONNX Runtime by CUDA too, which serves where no TensorRT runs on a GPU. Figures are noted before they are judged.
"""

from typing import Any

import numpy as np
import pytest

from admodels.contract.bundle import MODEL
from admodels.runtime.engine_from_onnx import BuildOptions, Range, build_engine
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from tests.gpu import papers
from tests.gpu.conftest import SHIPPED

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
BATCHES = (1, 8, 32, 64)


@pytest.fixture(params=["tensorrt", "onnxruntime-cuda"])
def backend(request: pytest.FixtureRequest) -> str:
    """What is held against the reference."""
    name: str = request.param
    if name == "onnxruntime-cuda" and not OnnxRuntimeRunner.can_use_gpu():
        pytest.skip("the ONNX Runtime that is installed is the one for CPUs")
    return name


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_bundles(
    request: pytest.FixtureRequest, bundles: Any, feeds_for: Any, results: Any, name: str, backend: str
) -> None:
    bundle = bundles[name]
    reference, runner = OnnxRuntimeRunner(bundle.files[MODEL]), shipped_runner(request, bundle, backend)
    furthest = {spec.name: 0.0 for spec in bundle.manifest.outputs}
    for rows in BATCHES:
        feeds = feeds_for(bundle, rows)
        wanted = reference.infer(feeds)
        # Twice: the first run warms up, the second is a captured graph.
        for got in (runner.infer(feeds), runner.infer(feeds)):
            for output, value in wanted.items():
                furthest[output] = max(furthest[output], float(np.abs(got[output] - value).max()))
    feeds = feeds_for(bundle, 32)
    moved = largest_move(runner.infer(feeds), runner.infer({key: value[:1] for key, value in feeds.items()}))
    allowed = {output: bundle.manifest.tolerances[output].max_abs for output in furthest}
    told = {"max_abs": furthest, "allowed": allowed, "alone_against_batch": moved}
    results.note("parity", **{f"{name}/{backend}": told})
    getattr(runner, "close", lambda: None)()
    assert {output: value for output, value in furthest.items() if not value <= allowed[output]} == {}
    # Features aren't bounded; heads are.
    assert moved <= 1e-3 or bundle.manifest.task == "encoder"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", papers.NAMES)
def test_the_papers_sizes(
    request: pytest.FixtureRequest, results: Any, name: str, precision: str, backend: str
) -> None:
    """torch fp32 on this GPU against the engine, per output at every batch, and a creative alone against its batch."""
    torch = pytest.importorskip("torch")
    from export.precision import tolerance

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    made = papers.paper(name, precision)
    runner = (
        papers.runner(request.getfixturevalue("trt"), made)
        if backend == "tensorrt"
        else OnnxRuntimeRunner(made.model, gpu=True)
    )
    module = made.module.cuda()
    furthest: dict[str, dict[str, float]] = {}
    for rows in papers.BATCHES:
        feeds = made.feeds(rows)
        with torch.no_grad():
            given = {key: torch.from_numpy(value).cuda() for key, value in feeds.items()}
            wanted = dict(zip(module.outputs, (value.float().cpu().numpy() for value in module(**given)), strict=True))
        got = runner.infer(feeds)
        furthest[str(rows)] = {output: float(np.abs(got[output] - value).max()) for output, value in wanted.items()}
    feeds = made.feeds(32)
    moved = largest_move(runner.infer(feeds), runner.infer({key: value[:1] for key, value in feeds.items()}))
    allowed = {output: tolerance(output, precision) for output in module.outputs}  # type: ignore[arg-type]
    told = {"max_abs": furthest, "allowed": allowed, "alone_against_batch": moved}
    results.note("paper_parity", **{f"{name}/{precision}/{backend}": told})
    getattr(runner, "close", lambda: None)()
    over = [
        (rows, output, value)
        for rows, outputs in furthest.items()
        for output, value in outputs.items()
        if not value <= allowed[output]
    ]
    assert over == []
    assert moved <= (1e-3 if precision == "fp32" else 5e-3)


def shipped_runner(request: pytest.FixtureRequest, bundle: Any, backend: str) -> Any:
    """The bundle's graph on the backend."""
    if backend != "tensorrt":
        return OnnxRuntimeRunner(bundle.files[MODEL], gpu=True)
    from admodels.runtime.tensorrt import TensorRtRunner

    trt = request.getfixturevalue("trt")
    profiles = [
        {"batch": Range(1, 1, 4), "length": Range(1, 64, 64)},
        {"batch": Range(1, 32, 64), "length": Range(1, 64, 64)},
    ]
    return TensorRtRunner(
        trt, build_engine(trt, bundle.files[MODEL], bundle.manifest.inputs, profiles, BuildOptions()).plan
    )


def largest_move(together: Any, alone: Any) -> float:
    """The first row of a batch against itself alone."""
    return max(float(np.abs(value[:1] - alone[output]).max()) for output, value in together.items())
