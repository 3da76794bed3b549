"""Every model learns eight real samples by heart: what it is made of is connected, and its losses pull the right way.

Generated creatives on OSIE's photographs, read through the shared encoders' bundles, at the small sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from admodels.build import build
from admodels.contract.bundle import load_bundle
from admodels.contract.spec import Architecture
from admodels.contract.subwords import pad_rows, words_of
from admodels.contract.text import COPY_FIELDS, TextEncoder, copy_mask, pad
from admodels.papers import adfusion, baselines, dbafn, deepm2ad, fgmfn, mvla
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from admodels.specs import encoder_uses, maps_read, small_spec
from admodels.word_vectors import train
from training.datasets import generated
from training.datasets.sample import Sample

ROOT = Path(__file__).resolve().parents[2]
ROWS = 8


@dataclass(frozen=True)
class Read:
    """Eight creatives as the shared encoders read them. text: S+N, alone: S."""

    samples: list[Sample]
    maps: dict[str, Tensor]
    text: mvla.Text
    alone: mvla.Text

    def label(self, name: str) -> Tensor:
        return torch.tensor(np.stack([sample.labels[name] for sample in self.samples]))


@pytest.fixture(scope="module")
def read() -> Read:
    samples = list(generated.samples(ROOT / "data" / "osie", "train", ROWS, 0, 256))
    image, text = (load_bundle(ROOT / "models" / name / "1") for name in ("mobilenetv2", "minilm"))
    maps = OnnxRuntimeRunner(image.files["model.onnx"]).infer({"image": np.stack([s.image for s in samples])})
    spec = text.manifest.text
    assert spec is not None
    encoder, runner = TextEncoder(text.files[spec.tokenizer], spec), OnnxRuntimeRunner(text.files["model.onnx"])

    def encode(fields: list[dict[str, str]]) -> mvla.Text:
        marked = [encoder.encode_marked(each) for each in fields]
        ids, mask = pad([ids for ids, _ in marked], spec.pad_to_multiple, spec.max_tokens)
        copy, _ = pad([copy_mask(pieces) for _, pieces in marked], spec.pad_to_multiple, spec.max_tokens)
        tokens = runner.infer({"input_ids": ids, "attention_mask": mask})["tokens"]
        return mvla.Text(torch.from_numpy(tokens), torch.from_numpy(mask), torch.from_numpy(copy))

    everything = [dict(sample.fields) for sample in samples]
    copy_only = [{name: text for name, text in each.items() if name in COPY_FIELDS} for each in everything]
    tensors = {name: torch.from_numpy(value) for name, value in maps.items()}
    return Read(samples, tensors, encode(everything), encode(copy_only))


def model_of(architecture: Architecture, labels: dict[str, tuple[str, ...]] | None = None, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    uses = encoder_uses(architecture, ("mobilenetv2", "1", "aa"), ("minilm", "1", "bb"))
    return build(small_spec(architecture, encoders=uses, labels=labels, options={"dropout": 0.0, **options}))


def maps_of(architecture: Architecture, read: Read) -> list[Tensor]:
    return [read.maps[name] for name in maps_read(architecture)]


def overfit(
    model: nn.Module, step: Callable[[], dict[str, Tensor]], steps: int, rate: float = 2e-3
) -> dict[str, float]:
    """Train on the one batch; the terms of the last step."""
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    model.train()
    terms: dict[str, Tensor] = {}
    for _ in range(steps):
        optimiser.zero_grad()
        terms = step()
        terms["total"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return {name: float(value.detach()) for name, value in terms.items()}


def test_dbafn(read: Read) -> None:
    model = model_of("dbafn")
    targets = dbafn.Targets(score=read.label("score").float(), saliency=read.label("saliency").float())
    weights = dbafn.Weights(sparse=0.0)
    maps = maps_of("dbafn", read)
    terms = overfit(
        model, lambda: dbafn.loss(model(maps, read.text.tokens, read.text.mask), targets, weights=weights), 80, 3e-3
    )
    assert terms["score"] < 1e-4
    assert terms["saliency"] < 0.1


def test_fgmfn(read: Read) -> None:
    model = model_of("fgmfn")
    maps, targets = maps_of("fgmfn", read), fgmfn.Targets(read.label("sentiment"))
    terms = overfit(model, lambda: fgmfn.loss(model(maps, read.text.tokens, read.text.mask), targets), 40)
    assert terms["task"] < 0.02
    assert terms["itc"] < 0.05


def test_mvla(read: Read) -> None:
    model = model_of("mvla", {"sentiment": mvla.POLARITIES, "anps": tuple("abcde")})
    targets = mvla.Targets(mvla.one_span(read.label("sentiment"), read.text.copy), torch.eye(5)[torch.arange(ROWS) % 5])
    maps, weights = maps_of("mvla", read), mvla.Weights(visual_label=1.0)
    terms = overfit(model, lambda: mvla.loss(model(maps, read.text, read.alone), targets, weights=weights), 60)
    assert terms["text"] < 0.1
    assert terms["visual"] < 0.1
    assert terms["kl"] < 0.05
    assert terms["anp"] < 0.1


def test_deepm2ad(read: Read) -> None:
    words = [words_of(" ".join(sample.fields.values()), 32) for sample in read.samples]
    trained = train(words, dim=64, buckets=500, min_count=1)
    rows, mask = (torch.from_numpy(x) for x in pad_rows([trained.subwords.encode(each) for each in words]))
    labels = {"topics": tuple("abcdefgh"), "emotions": tuple("abcd")}
    model = model_of("deepm2ad", labels, subwords=trained.subwords.rows)
    model.head.vectors.load(trained.table)  # type: ignore[union-attr, operator]
    topics, sentiments = torch.eye(8), torch.eye(4)[read.label("emotion") % 4]
    maps, targets = maps_of("deepm2ad", read), deepm2ad.Targets(topics, sentiments)
    terms = overfit(model, lambda: deepm2ad.loss(model(maps, rows, mask), targets), 60)
    assert terms["topic"] < 0.01
    assert terms["sentiment"] < 0.01
    first = deepm2ad.loss(model_of("deepm2ad", labels, subwords=trained.subwords.rows)(maps, rows, mask), targets)
    assert terms["reconstruction"] < 0.5 * float(first["reconstruction"].detach())


def test_adfusion(read: Read) -> None:
    labels = {"theme": tuple(f"t{n}" for n in range(30)), "sentiment": mvla.POLARITIES}
    model = model_of("adfusion", labels)
    maps = maps_of("adfusion", read)
    targets = adfusion.Targets(
        {name: read.label(name) for name in labels}, None, {"attention": (read.label("attention") > 0.5).float()}
    )
    terms = overfit(model, lambda: adfusion.loss(model(maps, read.text.tokens, read.text.mask), targets), 40)
    assert terms["theme"] < 0.05
    assert terms["sentiment"] < 0.05
    assert terms["attention"] < 0.05


@pytest.mark.parametrize("form", baselines.FORMS)
def test_baselines(read: Read, form: str) -> None:
    model = model_of("baseline", form=form, classes={"sentiment": 3})
    maps, targets = maps_of("baseline", read), baselines.Targets({"sentiment": read.label("sentiment")})
    terms = overfit(model, lambda: baselines.loss(model(maps, read.text.tokens, read.text.mask), targets), 60)
    assert terms["sentiment"] < 0.05
