"""Specs become modules: the small size stays small, the paper's size is the paper's, wrong options say so."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn

from admodels.backbones import WeightsUnavailableError, minilm_folder
from admodels.build import BUILDERS, WithEncoders, WithImageEncoder, build
from admodels.contract.spec import TASKS, Architecture, ImageEncoderSpec, ModelSpec, TextEncoderSpec
from admodels.papers.mvla import MvlaWithEncoders, Text
from admodels.specs import encoder_uses, maps_read, paper_spec, small_spec

ARCHITECTURES = get_args(Architecture)
PAPERS = tuple(name for name in ARCHITECTURES if name != "baseline")
LABELS = {
    "adfusion": {"theme": ("food", "travel"), "keywords": ("sale", "new", "free")},
    "deepm2ad": {"topics": ("food", "cars"), "emotions": ("active", "calm", "amused")},
}
OPTIONS: dict[str, dict[str, object]] = {"baseline": {"form": "mlp", "classes": {"theme": 2}}}


def small(architecture: Architecture, **options: object) -> ModelSpec:
    uses = encoder_uses(architecture, ("mobilenetv2", "1", "aa"), ("minilm", "1", "bb"))
    own = {**OPTIONS.get(architecture, {}), **options}
    return small_spec(architecture, encoders=uses, labels=LABELS.get(architecture), options=own)


def inputs(spec: ModelSpec) -> tuple[Any, ...]:
    """Features of two creatives as the small model reads them."""
    channels, sizes = spec.options["map_channels"], spec.options["map_sizes"]
    maps = [torch.randn(2, c, s, s) for c, s in zip(channels, sizes, strict=True)]  # type: ignore[arg-type]
    mask = torch.ones(2, 5, dtype=torch.long)
    if spec.architecture == "mvla":
        return maps, Text(torch.randn(2, 5, 384), mask, mask)
    return maps, torch.randn(2, 5, 64 if spec.architecture == "deepm2ad" else 384), mask


def test_every_architecture_has_a_builder_and_all_but_the_baselines_a_task() -> None:
    assert set(BUILDERS) == set(ARCHITECTURES)
    assert set(TASKS) == set(PAPERS)
    with pytest.raises(ValueError, match="baseline is for comparison and serves no head"):
        _ = small("baseline").task


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_small_size_has_at_most_a_million_parameters(architecture: Architecture) -> None:
    spec = small(architecture)
    model = build(spec).eval()
    assert sum(p.numel() for p in model.parameters()) <= 1_000_000
    output = model(*inputs(spec))
    assert all(len(value) == 2 for value in output.served().values())
    assert tuple(spec.encoders[0].outputs) == maps_read(architecture)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_spec_survives_json(architecture: Architecture) -> None:
    spec = small(architecture, dropout=0.5)
    again = ModelSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    names = [name for name, _ in build(again).named_parameters()]
    assert names == [name for name, _ in build(spec).named_parameters()]


def test_the_labels_decide_how_many_logits_there_are() -> None:
    spec = small("adfusion")
    assert spec.options["classes"] == {"theme": 2}
    assert spec.options["keywords"] == 3
    assert small("fgmfn").labels == {"sentiment": ("negative", "neutral", "positive")}


def test_fewer_maps_may_be_read() -> None:
    uses = encoder_uses("mvla", ("mobilenetv2", "1", "aa"), ("minilm", "1", "bb"), maps=("c5",))
    spec = small_spec("mvla", encoders=uses)
    assert spec.options["map_channels"] == [320]
    assert build(spec)(*inputs(spec)).emissions.shape == (2, 5, 7)


def test_deepm2ad_without_encoders_is_over_features() -> None:
    model = build(small_spec("deepm2ad", encoders=(), options={"subwords": 40, "object_names": True}))
    rows, mask = torch.randint(1, 40, (2, 3, 4)), torch.ones(2, 3)
    output = model(objects=rows, object_mask=mask, words=rows, word_mask=mask)
    assert output.topic_logits.shape == (2, 38)


def test_one_encoder_may_be_the_models_own() -> None:
    uses = encoder_uses("fgmfn", ("mobilenetv2", "1", "aa"), ("minilm", "1", "bb"))
    mask = torch.ones(2, 5, dtype=torch.long)
    ids = torch.full((2, 5), 7)
    own = TextEncoderSpec(name="minilm", folder=str(minilm_folder()))
    spec = small_spec("fgmfn", encoders=uses[:1]).model_copy(update={"text_encoder": own})
    model = build(spec)
    assert isinstance(model, WithEncoders)
    assert model.image is None
    assert model(inputs(spec)[0], ids, mask).logits.shape == (2, 3)
    spec = small_spec("mvla", encoders=encoder_uses("mvla", ("m", "1", "a"), ("t", "1", "b"))[:1])
    spec = spec.model_copy(update={"text_encoder": own})
    mvla = build(spec).eval()
    assert isinstance(mvla, MvlaWithEncoders)
    assert len(mvla.head.layers) == len(mvla.head.prefixes) == 6
    assert mvla(inputs(spec)[0], ids, mask, mask, alone=(ids, mask, mask)).alone.shape == (2, 5, 7)


def test_any_encoder_goes_by_name_and_size() -> None:
    image = ImageEncoderSpec(name="resnet10t", size=64, levels=(1, 2, 3), mean=(0.5,) * 3, std=(0.5,) * 3)
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    ids, mask = torch.full((2, 5), 7), torch.ones(2, 5, dtype=torch.long)
    for name, options in (("dbafn", {"channels": 16, "heatmap_size": 32}), ("mvla", {"dim": 16, "crops": True})):
        spec = paper_spec(name, options=options)  # type: ignore[arg-type]
        own = TextEncoderSpec(name="minilm", folder=str(minilm_folder()))
        model = build(spec.model_copy(update={"image_encoder": image, "text_encoder": own})).eval()
        with torch.no_grad():
            output = model(pixels, ids, mask, *([mask] if name == "mvla" else []))
        assert all(value.isfinite().all() for value in output.served().values())


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dbafn can't be built from the spec's options.*'depth'"):
        build(small("dbafn", depth=3))


PAPER_HEADS = {"dbafn": 55, "fgmfn": 44, "mvla": 104, "deepm2ad": 17, "adfusion": 14}
"""Millions of parameters beside the encoders; MVLA's holds BERT's layers, whose prefixes alone are 14 million."""


@pytest.mark.slow
@pytest.mark.parametrize("architecture", PAPERS)
def test_the_papers_size_runs_with_random_weights(architecture: Architecture) -> None:
    model = build(paper_spec(architecture)).eval()
    assert isinstance(model, (WithEncoders, WithImageEncoder, MvlaWithEncoders))
    size = 384 if architecture == "dbafn" else 224
    image = torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8)
    ids, mask = torch.full((1, 16), 5), torch.ones(1, 16, dtype=torch.long)
    with torch.no_grad():
        if architecture == "deepm2ad":
            output = model(image, torch.randn(1, 16, 300), mask)
        else:
            output = model(image, ids, mask, *([mask] if architecture == "mvla" else []))
    assert all(value.isfinite().all() for value in output.served().values())
    head: nn.Module = model.head
    assert sum(p.numel() for p in head.parameters()) / 1e6 == pytest.approx(PAPER_HEADS[architecture], rel=0.15)
    if architecture == "dbafn":
        assert output.heatmap.shape == (1, 384, 384)
        assert output.heatmap.sum().item() == pytest.approx(1.0, abs=1e-4)


def test_weights_that_can_not_be_had_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsUnavailableError, match=r"resnet18 can't be loaded.*hub can't be reached.*local folder"):
        build(paper_spec("adfusion", pretrained=True))
