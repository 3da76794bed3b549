"""Specs become modules: the small size stays small, the paper's size is the paper's, wrong options say so."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from admodels.build import BUILDERS, WithEncoders, build, encoder_uses, maps_read, paper_spec, small_spec
from admodels.contract.spec import Architecture, ModelSpec

ARCHITECTURES = get_args(Architecture)
LABELS = {"adfusion": {"theme": ("food", "travel"), "keywords": ("sale", "new", "free")}}


def small(architecture: Architecture, **options: object) -> ModelSpec:
    uses = encoder_uses(architecture, ("mobilenetv2", "1", "aa"), ("minilm", "1", "bb"))
    return small_spec(architecture, encoders=uses, labels=LABELS.get(architecture), options=options)


def test_every_architecture_has_a_builder() -> None:
    assert set(BUILDERS) == set(ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_small_size_has_at_most_a_million_parameters(architecture: Architecture) -> None:
    spec = small(architecture)
    model = build(spec).eval()
    assert sum(p.numel() for p in model.parameters()) <= 1_000_000
    channels, sizes = spec.options["map_channels"], spec.options["map_sizes"]
    maps = [torch.randn(2, c, s, s) for c, s in zip(channels, sizes, strict=True)]  # type: ignore[arg-type]
    output = model(maps, torch.randn(2, 5, 384), torch.ones(2, 5, dtype=torch.long))
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


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dbafn can't be built from the spec's options.*'depth'"):
        build(small("dbafn", depth=3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "head_millions", "served"),
    [("dbafn", 55, ["score", "heatmap"]), ("fgmfn", 44, ["sentiment_logits"]), ("adfusion", 14, ["ctr"])],
)
def test_the_papers_size_runs_with_random_weights(
    architecture: Architecture, head_millions: int, served: list[str]
) -> None:
    model = build(paper_spec(architecture, labels=None)).eval()
    assert isinstance(model, WithEncoders)
    size = 384 if architecture == "dbafn" else 224
    image = torch.randint(0, 256, (1, size, size, 3), dtype=torch.uint8)
    with torch.no_grad():
        output = model(image, torch.full((1, 16), 5), torch.ones(1, 16, dtype=torch.long))
    assert set(served) <= set(output.served())
    assert sum(p.numel() for p in model.head.parameters()) / 1e6 == pytest.approx(head_millions, rel=0.15)
    if architecture == "dbafn":
        assert output.heatmap.shape == (1, 384, 384)
        assert output.heatmap.sum().item() == pytest.approx(1.0, abs=1e-4)
