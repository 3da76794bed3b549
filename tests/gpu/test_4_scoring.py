"""Fourth: the scoring half end to end, as a share of what the bare engines do, and its ages at fixed arrival rates."""

import io
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from admodels.contract.bundle import MODEL
from admodels.runtime.engine_from_onnx import BuildOptions, Range, build_engine
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from tests.gpu import scoring

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
COUNT = 2_000


def picture() -> bytes:
    """A 1200×628 JPEG."""
    coarse = np.random.default_rng(7).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(coarse).resize((1200, 628)).save(encoded, "JPEG")
    return encoded.getvalue()


@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime-cuda"])
def test_the_scoring_half(request: pytest.FixtureRequest, bundles: Any, results: Any, backend: str) -> None:
    if backend == "onnxruntime-cuda" and not OnnxRuntimeRunner.can_use_gpu():
        pytest.skip("the ONNX Runtime that is installed is the one for CPUs")
    made = scoring.engines(bundles, runner_of(request, backend))
    data = picture()
    one = scoring.prepared(made, scoring.decoded(data, made.sizes))
    began = time.perf_counter()
    for _ in range(COUNT // scoring.BATCH):
        made.score([one] * scoring.BATCH)
    bare = COUNT // scoring.BATCH * scoring.BATCH / (time.perf_counter() - began)
    told: dict[str, Any] = {"engines_per_second": round(bare, 1), "at": {}}
    with scoring.pool() as workers:
        scoring.run(made, workers, data, 64, None)
        began = time.perf_counter()
        scoring.run(made, workers, data, COUNT, None)
        whole = COUNT / (time.perf_counter() - began)
        told |= {"creatives_per_second": round(whole, 1), "share_of_engines": round(whole / bare, 4)}
        for share in (0.25, 0.5, 0.8):
            rate = whole * share
            ages = scoring.run(made, workers, data, min(COUNT, int(rate * 20) + 1), rate)
            quantiles = {f"p{q}_ms": round(float(np.percentile(ages, q)) * 1000, 2) for q in (50, 95, 99)}
            told["at"][f"{rate:.0f}/s"] = quantiles
        results.note("scoring", **{backend: told})
    assert whole > 0


def runner_of(request: pytest.FixtureRequest, backend: str) -> Any:
    """Makes a bundle's runner on the backend."""
    if backend != "tensorrt":
        return lambda bundle: OnnxRuntimeRunner(bundle.files[MODEL], gpu=True)
    from admodels.runtime.tensorrt import TensorRtRunner

    trt = request.getfixturevalue("trt")
    profile = {"batch": Range(1, 32, 32), "length": Range(1, 64, 64)}

    def make(bundle: Any) -> Any:
        return TensorRtRunner(
            trt, build_engine(trt, bundle.files[MODEL], bundle.manifest.inputs, [profile], BuildOptions()).plan
        )

    return make
