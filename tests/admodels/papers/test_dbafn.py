"""DBAFN's equations one by one, what its options change, and what must not change a score."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from admodels.papers.dbafn import ENTITIES, Dbafn, Output, Targets, Weights, loss


def head(**options: Any) -> Dbafn:
    torch.manual_seed(1)
    sizes = {"map_channels": (5, 6, 7), "map_sizes": (8, 4, 2), "text_dim": 12, "text_hidden": 10, "channels": 8}
    small = {"heads": 2, "score_hidden": 6, "decoder_channels": 8, "heatmap_size": 16}
    return Dbafn(**(sizes | small | options)).eval()


def run(model: Dbafn, features: Any) -> Output:
    output: Output = model(features.maps[2:], features.tokens, features.mask)
    return output


def test_shapes_and_ranges(features: Any) -> None:
    output = run(head(), features)
    assert output.score.shape == (4,)
    assert output.heatmap.shape == (4, 16, 16)
    assert output.fused.shape == (4, 8)
    assert output.activations.shape == (4, 8, 4, 4)
    assert output.entity_logits.shape == (4, 9, len(ENTITIES))
    assert ((output.score > 0) & (output.score < 1)).all()
    torch.testing.assert_close(output.heatmap.sum((1, 2)), torch.ones(4))
    assert list(output.served()) == ["score", "heatmap"]


@pytest.mark.parametrize(
    "options",
    [{}, {"gate_rank": 3}, {"global_attention": "single"}, {"normalise_maps": True}, {"text_pool": "padded"}],
)
def test_a_score_depends_on_neither_batch_nor_padding(features: Any, options: dict[str, Any]) -> None:
    model = head(**options)
    together = run(model, features)
    for index in range(4):
        alone = run(model, features.row(index))
        torch.testing.assert_close(alone.score[0], together.score[index], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.heatmap[0], together.heatmap[index], atol=1e-6, rtol=0)


def test_the_papers_mean_is_of_64_tokens_whatever_the_width_of_the_batch(features: Any) -> None:
    read: list[Tensor] = []
    model = head(text_pool="padded")
    model.text.project.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    run(model, features)
    real = features.mask[..., None].float()
    torch.testing.assert_close(read[0][:, :12], (features.tokens * real).sum(1) / 64)


ABLATIONS: list[dict[str, Any]] = [
    {"modulation": False}, {"local_branch": False}, {"gate": False}, {"modulation": False, "gate": False}
]  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"gate_rank": 3}, {"global_attention": "single"}, *ABLATIONS])
def test_gradients_reach_every_parameter(features: Any, options: dict[str, Any]) -> None:
    model = head(**options).train()
    output = run(model, features)
    entities = torch.where(features.mask.bool(), 1, -1)
    targets = Targets(score=torch.rand(4), saliency=torch.rand(4, 16, 16), entities=entities)
    variants = (torch.randn(4, 8), torch.randn(4, 8))
    loss(output, targets, contrast=variants)["total"].backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_entities_over_the_threshold_are_averaged_and_none_gives_zeros(features: Any) -> None:
    model = head()
    text = model.text
    with torch.no_grad():
        text.entities.weight.zero_()
        text.entities.bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0, 0.0]))
    seen: list[Tensor] = []
    text.project.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    text(features.tokens, features.mask)
    mean = features.tokens[2, :4].mean(0)
    torch.testing.assert_close(seen[0][2], torch.cat([mean, mean]))  # every token is a price
    with torch.no_grad():
        text.entities.bias.copy_(torch.tensor([9.0, 0.0, 0.0, 0.0, 0.0]))
    text(features.tokens, features.mask)
    torch.testing.assert_close(seen[1][2], torch.cat([mean, torch.zeros(12)]))


def test_equation_1_resamples_down_to_the_coarsest_grid(features: Any) -> None:
    model = head()
    a, b, c = features.maps[2:]
    down = [functional.interpolate(m, size=(2, 2), mode="bilinear", antialias=True) for m in (a, b)]
    conv = model.reduce[0]
    expected = functional.relu(functional.conv2d(torch.cat([*down, c], 1), conv.weight, conv.bias))
    torch.testing.assert_close(model.reduce(model.concatenate([a, b, c])), expected, atol=1e-5, rtol=1e-4)


def test_equations_7_and_8_weigh_positions_with_a_mean_of_one() -> None:
    branch = head().local_branch
    x = torch.randn(3, 8, 2, 2)
    q = functional.relu(x.mean((2, 3)) @ branch.query[0].weight.T + branch.query[0].bias)
    k, v = (functional.relu(functional.conv2d(x, c[0].weight, c[0].bias)) for c in (branch.key, branch.value))
    logits = torch.einsum("bc,bchw->bhw", q, k) / 8**0.5
    weights = torch.softmax(logits.flatten(1), 1).view(3, 1, 2, 2) * 4
    torch.testing.assert_close(weights.mean((2, 3)), torch.ones(3, 1))
    torch.testing.assert_close(branch(x), weights * v)


def test_equation_9_blends_by_the_gate() -> None:
    gate = head().gate
    vector, local = torch.randn(2, 8), torch.randn(2, 8, 2, 2)
    linear = gate.expand[0]
    expanded = functional.relu(vector @ linear.weight.T + linear.bias).view(2, 8, 2, 2)
    g = torch.sigmoid(gate.weigh(torch.cat([expanded, local], 1)))
    assert g.shape == (2, 1, 2, 2)
    torch.testing.assert_close(gate(vector, local), g * local + (1 - g) * expanded)


def test_the_gate_holds_what_the_paper_says_at_its_size() -> None:
    with torch.device("meta"):
        model = Dbafn(map_channels=(192, 384, 768), map_sizes=(12, 12, 12), text_dim=768)
    linear = model.gate.expand[0]
    assert sum(p.numel() for p in linear.parameters()) == 512 * 73728 + 73728  # 37.8 M
    assert model.gate.shape == (512, 12, 12)


def test_the_total_is_equation_12(features: Any) -> None:
    output = run(head(), features)
    targets = Targets(score=torch.rand(4), saliency=torch.rand(4, 16, 16))
    weights = Weights(saliency=0.5, sparse=0.01, contrast=0.1)
    terms = loss(output, targets, contrast=(torch.randn(4, 8), torch.randn(4, 8)), weights=weights)
    expected = terms["score"] + 0.5 * terms["saliency"] + 0.01 * terms["sparse"] + 0.1 * terms["contrast"]
    torch.testing.assert_close(terms["total"], expected)


def test_terms_without_labels_are_left_out(features: Any) -> None:
    assert set(loss(run(head(), features), Targets())) == {"total", "sparse"}


@pytest.mark.parametrize(("part", "name"), [("modulation", "film"), ("local_branch", "local_branch"), ("gate", "gate")])
def test_an_ablation_leaves_out_its_part_alone(part: str, name: str) -> None:
    def others(model: Dbafn) -> set[str]:
        return {key for key, _ in model.named_parameters() if not key.startswith((f"{name}.", "gate.weigh."))}

    whole, less = head(), head(**{part: False})
    assert getattr(less, name) is None
    assert others(less) == others(whole)


def test_without_the_gate_the_branches_are_added(features: Any) -> None:
    model = head(gate=False)
    local, vector = torch.randn(2, 8, 2, 2), torch.randn(2, 8)
    torch.testing.assert_close(model._fuse(vector, local), local + vector[:, :, None, None])
    model = head(local_branch=False)
    gate = model.gate
    assert gate is not None
    expanded = gate.expand(vector).view(2, 8, 2, 2)
    torch.testing.assert_close(model._fuse(vector, None), expanded)
    with pytest.raises(ValueError, match="leave one of them"):
        head(gate=False, local_branch=False)


def test_without_modulation_the_image_comes_through_unchanged(features: Any) -> None:
    model = head(modulation=False)
    seen: list[Tensor] = []
    model.local_branch.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    run(model, features)
    torch.testing.assert_close(seen[0], model.reduce(model.concatenate(features.maps[2:])))
