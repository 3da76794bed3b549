"""Second: does the engine compute what ONNX Runtime computes, alone and in a batch, and what the papers' sizes give?"""

from typing import Any

import numpy as np
import pytest

from admodels.contract.bundle import MODEL
from admodels.runtime.engine_from_onnx import BuildOptions, Range, build_engine
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from tests.gpu.conftest import SHIPPED

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
BATCHES = (1, 8, 32, 64)
TF32 = 5e-3
"""TensorRT may multiply fp32 in TF32, with ten bits of mantissa, as torch does where it is allowed."""


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_bundles(trt: Any, bundles: Any, feeds_for: Any, results: Any, name: str) -> None:
    from admodels.runtime.tensorrt import TensorRtRunner

    bundle = bundles[name]
    profiles = [
        {"batch": Range(1, 1, 4), "length": Range(1, 64, 64)},
        {"batch": Range(1, 32, 64), "length": Range(1, 64, 64)},
    ]
    engine = build_engine(trt, bundle.files[MODEL], bundle.manifest.inputs, profiles, BuildOptions())
    runner, reference = TensorRtRunner(trt, engine.plan), OnnxRuntimeRunner(bundle.files[MODEL])
    largest: dict[str, float] = {}
    for rows in BATCHES:
        feeds = feeds_for(bundle, rows)
        wanted = reference.infer(feeds)
        # Twice: the first run warms up, the second is a captured graph.
        for got in (runner.infer(feeds), runner.infer(feeds)):
            for output, value in wanted.items():
                scale = max(1.0, float(np.abs(value).max()))
                largest[output] = max(largest.get(output, 0.0), float(np.abs(got[output] - value).max()) / scale)
    feeds = feeds_for(bundle, 32)
    together, alone = runner.infer(feeds), runner.infer({key: value[:1] for key, value in feeds.items()})
    moved = max(float(np.abs(together[output][:1] - alone[output]).max()) for output in together)
    runner.close()
    results.note("parity", **{name: {"max_relative": largest, "alone_against_batch": moved}})
    assert max(largest.values()) <= TF32
    assert moved <= 1e-3 or name in ("mobilenetv2", "minilm"), "features aren't bounded; heads are"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", ["dbafn", "fgmfn", "mvla", "deepm2ad", "adfusion"])
def test_the_papers_sizes(trt: Any, results: Any, name: str, precision: str) -> None:
    torch = pytest.importorskip("torch")
    from export.commands import verify_source
    from tests.gpu.conftest import MODELS

    torch.manual_seed(0)
    report = verify_source(f"paper:{name}", None, MODELS, precision=precision, backends=("tensorrt",))
    results.note("paper_parity", **{f"{name}/{precision}": report.as_json()})
    assert report.ok


def test_ocr_reads_on_the_gpu_as_on_the_cpu(results: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rapidocr")
    from benchmarks.ocr_recall import generated, grey
    from worker.intake import ocr_rapidocr

    if not ocr_rapidocr.on_gpu():
        pytest.skip("this ONNX Runtime is not the one for CUDA (onnxruntime-gpu)")
    pictures = [grey(2)(image) for image, *_ in generated(8, 7)]
    there = [ocr_rapidocr.Reader(60).read(picture) for picture in pictures]
    monkeypatch.setattr(ocr_rapidocr, "on_gpu", lambda: False)
    here = [ocr_rapidocr.Reader(60).read(picture) for picture in pictures]
    words = [[word[0] for word in found] for found in here]
    same = sum(found == [word[0] for word in other] for found, other in zip(words, there, strict=True))
    results.note("ocr", pictures=len(pictures), the_same_words=same)
    assert same >= len(pictures) - 1, "a letter may tip where two are as likely"
