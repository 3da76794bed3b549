"""AdFusion: heads by name, missing labels, gradients, and what must not change a score."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from admodels.papers.adfusion import Adfusion, Output, Targets, Weights, loss

NAN = float("nan")
CLASSES = {"theme": 4, "emotion": 3}


def head(**options: Any) -> Adfusion:
    torch.manual_seed(1)
    sizes = {"map_channels": (5, 6, 7), "map_sizes": (8, 4, 2), "text_dim": 12, "classes": CLASSES, "keywords": 5}
    small = {"dim": 8, "layers": 2, "heads": 2, "hidden": 16, "dropout": 0.0}
    return Adfusion(**(sizes | small | options)).eval()


def run(model: Adfusion, features: Any) -> Output:
    output: Output = model(features.maps[2:], features.tokens, features.mask)
    return output


def labels() -> Targets:
    return Targets(
        classes={"theme": torch.tensor([0, 3, -1, 2]), "emotion": torch.tensor([1, -1, -1, 0])},
        keywords=torch.tensor([[1.0, 0, 0, 1, 0], [NAN] * 5, [0.0] * 5, [NAN] * 5]),
        values={n: torch.tensor([0.1, NAN, 0.9, 0.4]) for n in ("ctr", "attention", "share_likelihood")},
    )


def test_outputs_by_name_and_shape(features: Any) -> None:
    served = run(head(), features).served()
    assert {name: tuple(value.shape) for name, value in served.items()} == {
        "attention": (4,),
        "ctr": (4,),
        "share_likelihood": (4,),
        "theme_logits": (4, 4),
        "emotion_logits": (4, 3),
        "keywords_logits": (4, 5),
    }
    assert all(((served[n] > 0) & (served[n] < 1)).all() for n in ("attention", "ctr", "share_likelihood"))


def test_heads_that_were_not_asked_for_do_not_exist(features: Any) -> None:
    served = run(head(classes={}, keywords=0, values=("ctr",)), features).served()
    assert list(served) == ["ctr"]


@pytest.mark.parametrize("option", [{"classes": {"mood": 3}}, {"values": ("roi",)}])
def test_unknown_heads_are_refused_by_name(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no head named '(mood|roi)'; heads are theme, "):
        head(**option)


def test_a_score_depends_on_neither_batch_nor_padding(features: Any) -> None:
    model = head()
    together = run(model, features).served()
    for index in range(4):
        for name, value in run(model, features.row(index)).served().items():
            torch.testing.assert_close(value[0], together[name][index], atol=1e-5, rtol=0)


@pytest.mark.parametrize("options", [{}, {"multi_scale": False}, {"cross_attention": False}, {"values": ("ctr",)}])
def test_gradients_reach_every_parameter(features: Any, options: dict[str, Any]) -> None:
    model = head(**options).train()
    targets = labels()
    known = {name: value for name, value in targets.values.items() if name in model.heads.values}
    loss(run(model, features), targets._replace(values=known))["total"].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_the_total_is_the_weighted_sum(features: Any) -> None:
    terms = loss(run(head(), features), labels(), weights=Weights(task=2.0, itc=0.3, mi=0.1))
    torch.testing.assert_close(terms["total"], 2.0 * terms["task"] + 0.3 * terms["itc"] + 0.1 * terms["mi"])
    heads = ("theme", "emotion", "keywords", "ctr", "attention", "share_likelihood")
    torch.testing.assert_close(terms["task"], sum(terms[n] for n in heads))


def test_a_sample_trains_only_the_heads_it_has_labels_for(features: Any) -> None:
    model = head().train()
    targets = Targets(values={"ctr": torch.tensor([0.1, 0.2, NAN, 0.4])})
    terms = loss(run(model, features), targets, weights=Weights(itc=0.0, mi=0.0))
    terms["total"].backward()
    assert model.heads.values["ctr"].weight.grad.abs().sum() > 0
    for name in ("theme", "emotion"):
        grad = model.heads.classes[name].weight.grad
        assert grad is None or grad.abs().sum() == 0


def test_without_several_scales_the_last_map_stands_alone(features: Any) -> None:
    model = head(multi_scale=False)
    assert model.image(features.maps[2:]).shape == head().image(features.maps[2:]).shape
    before = run(model, features).values["ctr"]
    features.maps[2:4] = [m + 1 for m in features.maps[2:4]]
    torch.testing.assert_close(run(model, features).values["ctr"], before)


def test_without_cross_attention_the_modalities_meet_in_the_join(features: Any) -> None:
    model = head(cross_attention=False)
    image = model.norm_image(model.image(features.maps[2:]).flatten(2).transpose(1, 2)).mean(1)
    torch.testing.assert_close(run(model, features).image_vector, image)
