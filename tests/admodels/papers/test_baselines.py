"""The baselines do what their names say, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from admodels.papers.baselines import FORMS, Baseline, Output, Targets, Weights, loss

HEADS: dict[str, Any] = {"classes": {"sentiment": 3}, "labels": {"topics": 5}, "values": ("score",)}


def head(form: str, **options: Any) -> Baseline:
    torch.manual_seed(1)
    sizes = {"map_channels": (5, 6, 7), "map_sizes": (8, 4, 2), "text_dim": 12, "dim": 8, "dropout": 0.0}
    return Baseline(form=form, **(sizes | HEADS | options)).eval()


def run(model: Baseline, features: Any) -> Output:
    output: Output = model(features.maps[2:], features.tokens, features.mask)
    return output


@pytest.mark.parametrize("form", FORMS)
def test_shapes_gradients_and_independence_of_the_batch(features: Any, form: str) -> None:
    model = head(form, heatmap_size=16)
    output = run(model, features)
    shapes = {"sentiment_logits": (4, 3), "topics_logits": (4, 5), "score": (4,)}
    shapes |= {} if form == "text" else {"heatmap": (4, 16, 16)}
    assert {name: tuple(value.shape) for name, value in output.served().items()} == shapes
    for index in range(4):
        alone = run(model, features.row(index))
        torch.testing.assert_close(alone.classes["sentiment"][0], output.classes["sentiment"][index], atol=1e-5, rtol=0)
    wanted = Targets(
        {"sentiment": torch.tensor([0, 1, 2, -1])}, {"topics": torch.ones(4, 5)}, {"score": torch.rand(4)},
        torch.rand(4, 16, 16),
    )  # fmt: skip
    loss(output, wanted)["total"].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize(
    ("form", "reads"), [("image", (True, False)), ("text", (False, True)), ("early", (True, True))]
)
def test_a_form_reads_what_it_says(features: Any, form: str, reads: tuple[bool, bool]) -> None:
    model = head(form)
    before = run(model, features).classes["sentiment"]
    maps = [m + 1 for m in features.maps[2:]]
    image = model(maps, features.tokens, features.mask).classes["sentiment"]
    text = model(features.maps[2:], features.tokens + 1, features.mask).classes["sentiment"]
    assert (not torch.allclose(image, before), not torch.allclose(text, before)) == reads


def test_late_fusion_is_the_mean_of_two_towers(features: Any) -> None:
    model = head("late")
    image, text = head("image"), head("text")
    image.towers[0].load_state_dict(model.towers[0].state_dict())
    text.towers[0].load_state_dict(model.towers[1].state_dict())
    both = run(model, features)
    a, b = run(image, features), run(text, features)
    torch.testing.assert_close(both.classes["sentiment"], (a.classes["sentiment"] + b.classes["sentiment"]) / 2)
    torch.testing.assert_close(both.values["score"], (a.values["score"] + b.values["score"]) / 2)


def test_early_fusion_is_linear_in_the_pooled_features(features: Any) -> None:
    model = head("early")
    pooled = torch.cat([m.mean((2, 3)) for m in features.maps[2:]], 1)
    words = torch.stack([features.tokens[i, : int(n)].mean(0) for i, n in enumerate(features.mask.sum(1))])
    linear = model.towers[0].classes["sentiment"]
    expected = torch.cat([pooled, words], 1) @ linear.weight.T + linear.bias
    torch.testing.assert_close(run(model, features).classes["sentiment"], expected, atol=1e-5, rtol=1e-5)


def test_one_modality_needs_only_its_input(features: Any) -> None:
    assert head("text")(None, features.tokens, features.mask).values["score"].shape == (4,)
    assert head("image")(features.maps[2:], None, None).values["score"].shape == (4,)


def test_scores_may_be_lost_by_huber(features: Any) -> None:
    output = run(head("early"), features)
    wanted = Targets(values={"score": output.values["score"].detach() + 0.05})
    assert loss(output, wanted, weights=Weights(values="huber"))["total"].item() == pytest.approx(0.5 * 0.05**2)


def test_what_does_not_exist_is_refused(features: Any) -> None:
    with pytest.raises(ValueError, match="no baseline of the form 'cross'"):
        head("cross")
    with pytest.raises(ValueError, match="no target fits"):
        loss(run(head("early"), features), Targets())
