"""FGMFN's equations, its options, and what must not change a score."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from admodels.papers.fgmfn import Fgmfn, Output, Targets, Weights, loss


def head(**options: Any) -> Fgmfn:
    torch.manual_seed(1)
    sizes = {"map_channels": (3, 4, 5, 6, 7), "map_sizes": (32, 16, 8, 4, 2), "text_dim": 12}
    small = {"dim": 8, "layers": 2, "heads": 2, "hidden": 16, "high_level": 5, "dropout": 0.0}
    return Fgmfn(**(sizes | small | options)).eval()


def run(model: Fgmfn, features: Any) -> Output:
    output: Output = model(features.maps, features.tokens, features.mask)
    return output


@pytest.mark.parametrize(("level", "side"), [(4, 4), (5, 2)])
def test_shapes(features: Any, level: int, side: int) -> None:
    model = head(high_level=level)
    assert model.image(features.maps).shape == (4, 8, side, side)
    output = run(model, features)
    assert output.logits.shape == output.text_path.shape == output.image_path.shape == (4, 3)
    assert output.text_vector.shape == output.image_vector.shape == (4, 8)
    assert list(output.served()) == ["sentiment_logits"]


@pytest.mark.parametrize("sentence", ["first", "mean"])
def test_a_score_depends_on_neither_batch_nor_padding(features: Any, sentence: str) -> None:
    model = head(sentence=sentence)
    together = run(model, features).logits
    for index in range(4):
        alone = run(model, features.row(index)).logits[0]
        torch.testing.assert_close(alone, together[index], atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [{}, {"sentence": "mean"}, {"multi_scale": False}, {"cross_attention": False}])
def test_gradients_reach_every_parameter(features: Any, options: dict[str, Any]) -> None:
    model = head(**options).train()
    loss(run(model, features), Targets(torch.tensor([0, 1, 2, -1])))["total"].backward()
    dead = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # A path of one step has no transition between labels; the shared start and end scores do learn.
    assert dead == {"crf.transitions"}


def test_equation_4(features: Any) -> None:
    part = head().image
    low, high = part.low(features.maps[:3]), part.high(features.maps[3:])
    v_low = functional.relu(functional.conv2d(low, part.reduce_low[0].weight, part.reduce_low[0].bias, 2, 1))
    v_high = functional.relu(functional.conv2d(high, part.reduce_high[0].weight, part.reduce_high[0].bias))
    mean = high.mean((2, 3)) @ part.mean.weight.T + part.mean.bias
    expected = torch.cat([v_low, v_high], 1) + mean[:, :, None, None]
    torch.testing.assert_close(part(features.maps), expected)


def test_equation_10_for_one_step_is_a_softmax_of_start_emission_and_end() -> None:
    model = head()
    emissions = torch.randn(5, 3)
    expected = torch.log_softmax(model.crf.start + emissions + model.crf.end, -1)
    torch.testing.assert_close(model._path(emissions), expected)


def test_the_papers_classifier_caps_the_probability(features: Any) -> None:
    model = head(classifier="tanh_logits")
    with torch.no_grad():
        model.classify[1].weight.mul_(1e4)
    p = torch.softmax(run(model, features).logits, -1).max()
    assert p <= math.e / (math.e + 2 / math.e) + 1e-6  # .787
    with torch.no_grad():
        model = head()
        model.classify[-1].weight.mul_(1e4)
    assert torch.softmax(run(model, features).logits, -1).max() > 0.99


def test_the_total_is_equation_12(features: Any) -> None:
    weights = Weights(itc=0.8, mi=0.05, paths=2.0)
    terms = loss(run(head(), features), Targets(torch.tensor([0, 1, 2, 0])), weights=weights)
    expected = terms["task"] + 0.8 * terms["itc"] + 0.05 * (terms["mi"] + 2.0 * terms["paths"])
    torch.testing.assert_close(terms["total"], expected)


def test_the_mutual_information_term_drives_the_visual_path_alone(features: Any) -> None:
    model = head()
    loss(run(model, features), Targets(torch.tensor([0, 1, 2, 0])))["mi"].backward()
    assert model.emit_text.weight.grad is None
    assert model.emit_image.weight.grad is not None


def test_the_temperature_starts_at_a_tenth() -> None:
    assert head().itc_scale.exp().item() == pytest.approx(10.0)


def test_it_wants_five_maps() -> None:
    with pytest.raises(ValueError, match="FGMFN reads 5 maps"):
        head(map_channels=(5, 6, 7), map_sizes=(8, 4, 2))


def test_without_several_scales_the_last_map_stands_alone(features: Any) -> None:
    model = head(multi_scale=False)
    before = run(model, features).logits
    features.maps[:4] = [m + 1 for m in features.maps[:4]]
    torch.testing.assert_close(run(model, features).logits, before)
    features.maps[4] = features.maps[4] + 1
    assert not torch.allclose(run(model, features).logits, before)


def test_without_cross_attention_the_modalities_meet_in_the_classifier(features: Any) -> None:
    model = head(cross_attention=False)
    image = model.norm_image(model.image(features.maps).flatten(2).transpose(1, 2)).mean(1)
    text = model.project_text(features.tokens)[:, 0]
    torch.testing.assert_close(run(model, features).logits, model.classify(torch.cat([image, text], 1)))
