"""MVLA's equations, its two passes, its gradients, and what must not change a score."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from admodels.backbones import bert_layers
from admodels.contract.viterbi import Chain, spans
from admodels.papers.mvla import (
    LABELS,
    POLARITIES,
    Mvla,
    Output,
    Targets,
    Text,
    Weights,
    loss,
    one_span,
    one_span_scores,
)


def head(**options: Any) -> Mvla:
    torch.manual_seed(1)
    layers = bert_layers(width=8, layers=2, heads=2, hidden=16, dropout=0.0)
    sizes = {"width": 8, "map_channels": (3, 5, 7), "text_dim": 12, "dim": 6, "anps": 11, "dropout": 0.0}
    return Mvla(layers, **(sizes | options)).eval()


def texts(features: Any) -> tuple[Text, Text]:
    """S+N: the copy, then visual context; S: the copy alone, in one token more of padding."""
    copy = torch.zeros_like(features.mask)
    for row, marked in enumerate(([1, 2, 4], [0], [1, 2], [1, 2, 3])):
        copy[row, marked] = 1
    alone_mask = (torch.arange(7)[None] < torch.tensor([[6], [1], [4], [5]])).long()
    alone = Text(torch.randn(4, 7, 12, generator=torch.Generator().manual_seed(5)), alone_mask, copy[:, :7])
    return Text(features.tokens, features.mask, copy), alone


def run(model: Mvla, features: Any, **extra: Any) -> Output:
    text, alone = texts(features)
    output: Output = model([features.maps[i] for i in (0, 2, 4)], text, alone, **extra)
    return output


def targets(features: Any, *, teacher: bool = True) -> Targets:
    labels = one_span(torch.tensor([0, 1, 2, -1]), texts(features)[0].copy)
    return Targets(labels, torch.rand(4, 11) if teacher else None)


def test_shapes(features: Any) -> None:
    output = run(head(), features)
    assert output.emissions.shape == (4, 9, 7)
    assert output.alone is not None
    assert output.alone.shape == (4, 7, 7)
    served = {name: tuple(value.shape) for name, value in output.served().items()}
    assert served == {"sentiment_logits": (4, 3), "aspect_emissions": (4, 9, 7), "anp_logits": (4, 11)}
    assert "anp_logits" not in run(head(anps=0), features).served()


@pytest.mark.parametrize("options", [{}, {"prefix": False}, {"regions": False}, {"normalise_maps": True}])
def test_a_score_depends_on_neither_batch_nor_padding(features: Any, options: dict[str, Any]) -> None:
    model = head(**options)
    together = run(model, features)
    text, _ = texts(features)
    for index in range(4):
        one = features.row(index)
        length = one.mask.shape[1]
        alone: Output = model([one.maps[i] for i in (0, 2, 4)], Text(one.tokens, one.mask, text.copy[[index], :length]))
        torch.testing.assert_close(alone.emissions[0], together.emissions[index, :length], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.sentiment_logits[0], together.sentiment_logits[index], atol=1e-4, rtol=0)


def test_equations_9_to_11(features: Any) -> None:
    model = head()
    maps = [features.maps[i] for i in (0, 2, 4)]
    levels = model.levels(maps, model.boxes(4, None))  # type: ignore[misc]
    assert levels.shape == (4, 1 + 13, 3, 6)
    quarter = model.levels.project[0](features.maps[0][:, :, :16, :16].mean((2, 3)))  # type: ignore[union-attr]
    torch.testing.assert_close(levels[:, 1, 0], quarter)
    prefix = model.prefixes[0]
    beta = torch.softmax(prefix.weigh(levels).squeeze(3), 2)
    mixed = torch.einsum("bpe,bped->bpd", beta, levels)
    torch.testing.assert_close(prefix(levels), functional.linear(mixed, prefix.project.weight, prefix.project.bias))
    # Each layer weighs the levels by itself.
    assert not torch.allclose(beta, torch.softmax(model.prefixes[1].weigh(levels).squeeze(3), 2))


def test_equation_7_reads_the_whole_images_levels(features: Any) -> None:
    model = head()
    maps = [features.maps[i] for i in (0, 2, 4)]
    pooled = torch.stack([p(m.mean((2, 3))) for p, m in zip(model.levels.project, maps, strict=True)]).mean(0)  # type: ignore[union-attr, arg-type]
    anps = run(model, features).anp_logits
    assert anps is not None
    assert model.anps is not None
    torch.testing.assert_close(anps, model.anps(pooled))


def test_a_detectors_boxes_take_the_grids_place(features: Any) -> None:
    model = head()
    given = run(model, features, boxes=torch.tensor([[[0.1, 0.1, 0.4, 0.9]]]).expand(4, -1, -1))
    assert not torch.allclose(given.emissions, run(model, features).emissions)
    grid = run(model, features, boxes=model.grid.expand(4, -1, -1))
    torch.testing.assert_close(grid.emissions, run(model, features).emissions)


def brute(model: Mvla, emissions: Tensor, path: tuple[int, ...]) -> float:
    crf = model.crf
    total = crf.start[path[0]] + crf.end[path[-1]] + sum(emissions[n, k] for n, k in enumerate(path))
    return float((total + sum(crf.transitions[a, b] for a, b in pairwise(path))).detach())


def test_one_span_scores_are_the_chains(features: Any) -> None:
    model = head()
    text, _ = texts(features)
    emissions = run(model, features).emissions.detach()
    scores = one_span_scores(model.crf, emissions, text.copy)
    for row, c in product(range(4), range(3)):
        own = emissions[row][text.copy[row].bool()]
        path = (1 + 2 * c,) + (2 + 2 * c,) * (len(own) - 1)
        assert scores[row, c].item() == pytest.approx(brute(model, own, path), abs=1e-4)


def test_one_span_labels(features: Any) -> None:
    labels = one_span(torch.tensor([0, 1, 2, -1]), texts(features)[0].copy)
    assert labels.tolist() == [[1, 2, 2], [3, -1, -1], [5, 6, -1], [-1, -1, -1]]
    names = [LABELS[label] for label in (1, 3, 5)]
    assert names == [f"B-{polarity}" for polarity in POLARITIES]


def test_the_terms_are_equations_13_to_15(features: Any) -> None:
    model, wanted = head(), targets(features)
    output = run(model, features)
    assert output.alone is not None
    assert output.alone_copy is not None
    weights = Weights(text=0.9, anp=0.7, kl=0.3, top=4, visual_label=0.5)
    terms = loss(output, wanted, weights=weights)
    nll, kl = [], []
    for row in range(4):
        chains = []
        for emissions, copy in ((output.alone, output.alone_copy), (output.emissions, output.copy)):
            own = emissions[row][copy[row].bool()].detach()
            paths = list(product(range(7), repeat=len(own)))
            p = torch.softmax(torch.tensor([brute(model, own, path) for path in paths]), 0)
            marginals = torch.zeros(len(own), 7)
            for path, probability in zip(paths, p, strict=True):
                for n, k in enumerate(path):
                    marginals[n, k] += probability
            chains.append((dict(zip(paths, p.tolist(), strict=True)), marginals))
        (text_paths, q), (_, p_image) = chains
        kl.append(float((p_image * (p_image / q).log()).sum()))
        gold = tuple(label for label in wanted.labels[row].tolist() if label >= 0)
        if gold:
            nll.append(-torch.tensor(text_paths[gold]).log().item())
    assert terms["text"].item() == pytest.approx(sum(nll) / 3, rel=1e-4)
    assert terms["kl"].item() == pytest.approx(sum(kl) / 4, rel=1e-3)
    expected = 0.9 * terms["text"] + 0.7 * terms["anp"] + 0.3 * terms["kl"] + 0.5 * terms["visual"]
    torch.testing.assert_close(terms["total"], expected)


def dead(model: Mvla) -> set[str]:
    return {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}


def test_gradients_reach_every_parameter(features: Any) -> None:
    model = head().train()
    loss(run(model, features), targets(features))["total"].backward()
    assert dead(model) == set()


def test_the_label_loss_drives_the_text_path_alone(features: Any) -> None:
    model = head().train()
    loss(run(model, features), targets(features))["text"].backward()
    visual = {name for name, _ in model.named_parameters() if name.split(".")[0] in ("levels", "prefixes", "anps")}
    assert visual
    assert dead(model) >= visual
    assert model.emit.weight.grad is not None


def test_the_kl_drives_the_visual_path_against_a_fixed_text_path(features: Any) -> None:
    model = head().train()
    output = run(model, features)
    assert output.alone is not None
    output.alone.retain_grad()
    output.emissions.retain_grad()
    loss(output, targets(features))["kl"].backward()
    assert output.alone.grad is None
    assert output.emissions.grad is not None
    # Labels: the prefixes learn from the KL; what stands at the visual context's own tokens isn't compared.
    assert (output.emissions.grad[texts(features)[0].copy == 0] == 0).all()
    assert model.prefixes[0].project.weight.grad is not None


def test_without_a_teacher_there_is_no_anp_loss(features: Any) -> None:
    assert "anp" not in loss(run(head(), features), targets(features, teacher=False))
    assert "anp" not in loss(run(head(anps=0), features), targets(features))


def test_per_token_divides_by_the_copys_length(features: Any) -> None:
    output = run(head(), features)
    wanted = Targets(one_span(torch.tensor([-1, -1, 2, -1]), output.copy))
    whole, each = (loss(output, wanted, weights=Weights(per_token=p)) for p in (False, True))
    torch.testing.assert_close(each["text"], whole["text"] / 2)


def test_spans_come_out_of_the_served_emissions(features: Any) -> None:
    model = head()
    output = run(model, features)
    chain = Chain(*(p.detach().numpy() for p in (model.crf.start, model.crf.transitions, model.crf.end)))
    own = output.emissions[0][output.copy[0].bool()].detach()
    path = chain.best(own.numpy())
    best = max(product(range(7), repeat=3), key=lambda p: brute(model, own, p))
    assert tuple(path) == best
    assert all(span.kind in POLARITIES for span in spans(path, LABELS))


def test_both_passes_must_hold_the_same_copy(features: Any) -> None:
    model = head()
    text, alone = texts(features)
    maps = [features.maps[i] for i in (0, 2, 4)]
    with pytest.raises(ValueError, match="needs both passes"):
        loss(model(maps, text), targets(features))
    other = alone._replace(copy=torch.ones_like(alone.copy))
    with pytest.raises(ValueError, match="the same tokens of the copy"):
        loss(model(maps, text, other), targets(features))
