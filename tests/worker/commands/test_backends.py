"""What serves where there is no GPU, and which shapes an engine is built for."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from admodels.contract.bundle import load_bundle
from admodels.contract.manifest import TensorSpec
from admodels.contract.subwords import MAX_WORD_CHARACTERS, Subwords
from admodels.runtime import cuda, engine_store
from admodels.runtime.engine_from_onnx import BuildOptions
from admodels.runtime.engine_store import EngineKey
from admodels.runtime.runner import EngineError
from worker.commands import backends
from worker.commands.backends import Plan, Runners, profiles_of
from worker.errors import FatalError
from worker.settings import Settings

MODELS = Path(__file__).resolve().parents[3] / "models"
without_gpu = pytest.mark.skipif(cuda.compute_capability() is not None, reason="what a machine without a GPU says")


def settings(**more: Any) -> Settings:
    return Settings.model_validate({"pipeline": {"engine_threads": 1}, **more})


@without_gpu
@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_onnx_runtime_serves_on_a_cpu(backend: str) -> None:
    made = Runners(settings(backend=backend)).make(load_bundle(MODELS / "dbafn" / "1"), threads=1)
    assert made.backend == "onnxruntime"


def test_openvino_serves_when_it_is_asked_for() -> None:
    made = Runners(settings(backend="openvino")).make(load_bundle(MODELS / "dbafn" / "1"), threads=1)
    assert made.backend == "openvino"


def test_openvino_that_isnt_installed_is_told_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FatalError, match=r"pip install 'adscore\[openvino\]'") as told:
        Runners(settings(backend="openvino"))
    assert told.value.exit_code == 3


@without_gpu
def test_tensorrt_without_a_gpu_is_told_with_the_mend() -> None:
    with pytest.raises(FatalError, match="nvidia-smi") as told:
        Runners(settings(backend="tensorrt"))
    assert told.value.exit_code == 3


def test_a_head_is_as_long_as_its_text_encoder_reads() -> None:
    encoder, head = load_bundle(MODELS / "minilm" / "1"), load_bundle(MODELS / "dbafn" / "1")
    small, full = profiles_of(head, {encoder.digest: encoder}, 32)
    assert (small["batch"].usual, small["batch"].most) == (1, 4)
    assert (full["batch"].least, full["batch"].usual, full["batch"].most) == (1, 32, 32)
    assert encoder.manifest.text is not None
    assert small["length"].most == full["length"].most == encoder.manifest.text.max_tokens
    (only,) = profiles_of(head, {encoder.digest: encoder}, 4)
    assert only["batch"].most == 4


def test_only_what_a_bundle_reads_has_a_range() -> None:
    (image,) = profiles_of(load_bundle(MODELS / "mobilenetv2" / "1"), {}, 4)
    assert image.keys() == {"batch"}


def test_a_model_that_reads_words_has_room_for_the_longest() -> None:
    bundle = load_bundle(MODELS / "dbafn" / "1")
    inputs = (
        TensorSpec(name="words", dtype="int64", shape=("batch", "words", "rows")),
        TensorSpec(name="word_mask", dtype="int64", shape=("batch", "words")),
    )
    words = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"inputs": inputs}))
    (profile,) = profiles_of(words, {}, 4)
    assert profile.keys() == {"batch", "words", "rows"}
    longest = "x" * MAX_WORD_CHARACTERS
    (rows,) = Subwords([longest], buckets=1_000).encode([longest])
    assert len(rows) <= profile["rows"].most
    assert (profile["words"].least, profile["rows"].least) == (1, 1)


@pytest.mark.parametrize("missing", ["build", "refuse"])
def test_an_engine_that_was_built_for_other_shapes_is_one_that_is_missing(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(MODELS / "dbafn" / "1")
    new = EngineKey("tensorrt", "11.4.0", "9.0", "fp32", "ab" * 32, ({"batch": (1, 64, 64)},), {})
    old = dataclasses.replace(new, shapes=({"batch": (1, 16, 16)},))
    place = tmp_path / "dbafn" / "1" / "engines" / new.folder
    engine_store.save(place, old, b"old", b"")
    monkeypatch.setattr(backends, "_built", lambda *_: (b"new", b"timings"))
    plan, wanted = Plan(bundle, place, new, (), BuildOptions()), settings(tensorrt={"missing_engine": missing})
    if missing == "refuse":
        with pytest.raises(EngineError, match="built for another shapes"):
            backends._engine(wanted, None, plan)  # type: ignore[arg-type]
        return
    assert backends._engine(wanted, None, plan) == b"new"  # type: ignore[arg-type]
    assert engine_store.load(place, new) == b"new"
