"""From a run of a model that reads more than maps and tokens to the event it gives: fit, bundle, verify, serve."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from admodels.contract.bundle import BundleError
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from export.commands import bundle_run, verify_source
from tests.training.test_fit_tables import MODELS, make, quick
from tests.worker.scoring.test_assemble import SCORED, event
from training.datasets.pitt import SENTIMENTS, TOPICS
from training.evaluate import evaluate
from training.fit import fit
from training.predictor import Predictor
from worker.commands.bundles import load_encoders, load_heads
from worker.pipeline.job import canonical_copy
from worker.scoring.engines import Engines
from worker.scoring.feeds import Prepared
from worker.types import Copy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("mobilenetv2", "minilm", "fgmfn"):
        shutil.copytree(MODELS / name / "1", folder / name / "1", ignore=shutil.ignore_patterns("engines"))
    return folder


@pytest.fixture(scope="module")
def bundled(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """A configuration's run, and the bundle of it."""

    def build(name: str) -> tuple[Path, Path]:
        out, config = tmp_path_factory.mktemp("run"), quick(name)
        root = make(tmp_path_factory.mktemp("data"), config.dataset)
        fit(config, root, out / "run", seed=0, command="x", report=lambda _: None)
        source = str(out / "run")
        folder, _, verdict = bundle_run(
            source, config.model, models=models, version="1", replace=True, backends=("onnxruntime",)
        )
        assert verdict.ok
        assert verify_source(source, folder, models, backends=("onnxruntime",)).ok
        said, trained = (evaluate(Predictor(one, models), config.dataset, root)[1] for one in (folder, out / "run"))
        assert list(numbers(said)) == pytest.approx(list(numbers(trained)), abs=1e-3)
        return out / "run", folder

    return build


def numbers(told: Any) -> Iterator[float]:
    """Every share of the predictions, in order."""
    if isinstance(told, float):
        yield told
    elif isinstance(told, dict | list):
        for item in told.values() if isinstance(told, dict) else told:
            yield from numbers(item)


def engines(models: Path, *names: str) -> Engines:
    heads = load_heads(models, {"sentiment": names}, None)
    made = Engines(
        heads, load_encoders(models, heads, None), lambda item: OnnxRuntimeRunner(item.files["model.onnx"]), "ocr"
    )
    made.warm(4)
    return made


def score(made: Engines, copy: Copy, *others: Copy, ocr: str = "") -> dict[str, Any]:
    """The sentiment of the first creative as its event tells it."""
    batch = []
    for number, one in enumerate((copy, *others)):
        pixels = {size: np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8) for size in made.sizes}
        batch.append(Prepared(pixels, made.tokens({**canonical_copy(one), "ocr": ocr}), frozenset({"sentiment"})))
    scored = made.score(batch)
    assert not scored[0].errors
    creative = dataclasses.replace(SCORED.creative, copy=copy)
    told = event(creative=creative, heads={"sentiment": scored[0].parts["sentiment"]}, cache={"sentiment": "miss"})
    part: dict[str, Any] = told["scores"]["sentiment"]
    return part


def test_mvla_tells_what_the_copy_feels_span_by_span(bundled: Callable[[str], tuple[Path, Path]], models: Path) -> None:
    bundled("mvla-mm_tweet_sentiment")
    made = engines(models, "mvla")
    copy = Copy("It was  so\u200b good", None, None, "Cafe\u0301")
    alone = score(made, copy)
    assert set(alone["probabilities"]) == {"negative", "neutral", "positive"}
    assert {aspect["field"] for aspect in alone["aspects"]} == {"headline", "brand"}
    for aspect in alone["aspects"]:
        received = getattr(copy, aspect["field"])
        assert aspect["text"] == received[aspect["start"] : aspect["end"]]
        assert aspect["polarity"] in ("negative", "neutral", "positive")
        assert 0 <= aspect["p"] <= 1
    assert "anps" not in alone, "nobody taught it any"
    together = score(made, copy, Copy("so " * 40), Copy())
    assert together["value"] == pytest.approx(alone["value"], abs=1e-3)
    assert [a["text"] for a in together["aspects"]] == [a["text"] for a in alone["aspects"]]
    assert score(made, Copy())["aspects"] == []
    assert score(made, Copy(), ocr="words of the image are no copy")["aspects"] == []


def test_deepm2ad_tells_topics_and_emotions_beside_a_polarity(
    bundled: Callable[[str], tuple[Path, Path]], models: Path
) -> None:
    bundled("deepm2ad-pitt_ads_text-text")
    made = engines(models, "fgmfn", "deepm2ad")
    words = "chocolate cake so sweet"
    alone = score(made, Copy(), ocr=words)
    for name, known in (("topics", TOPICS), ("emotions", SENTIMENTS)):
        shares = [item["p"] for item in alone[name]]
        assert len(shares) == 10
        assert shares == sorted(shares, reverse=True)
        assert {item["name"] for item in alone[name]} <= set(known)
    assert alone["bucket"] in ("neg", "neu", "pos"), "of the model beside it"
    together = score(made, Copy(), Copy("so " * 40), Copy("x"), ocr=words)
    assert [item["p"] for item in together["topics"]] == pytest.approx(
        [item["p"] for item in alone["topics"]], abs=1e-3
    )
    with pytest.raises(BundleError, match="tells no polarity"):
        engines(models, "deepm2ad")
