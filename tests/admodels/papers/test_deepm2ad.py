"""DeepM2AD's equations, absent modalities, and what must not change a score."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from admodels.papers.deepm2ad import DeepM2Ad, DeepM2AdOverMaps, Output, Targets, loss

SIZES: dict[str, Any] = {
    "image_dim": 7, "object_dim": 6, "word_dim": 5, "dim": 8, "head_hidden": 9, "topics": 4, "sentiments": 3
}  # fmt: skip


@pytest.fixture
def model() -> DeepM2Ad:
    torch.manual_seed(0)
    return DeepM2Ad(**SIZES).eval()


@pytest.fixture
def inputs() -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    objects = torch.arange(4)[None] < torch.tensor([[4], [2], [0]])
    words = torch.arange(6)[None] < torch.tensor([[6], [3], [0]])
    return (
        torch.randn(3, 7),
        torch.where(objects[:, :, None], torch.randn(3, 4, 6), 50.0),
        objects.long(),
        torch.where(words[:, :, None], torch.randn(3, 6, 5), 50.0),
        words.long(),
    )


def run(model: DeepM2Ad, inputs: tuple[Tensor, ...]) -> Output:
    output: Output = model(*inputs)
    return output


def test_shapes(model: DeepM2Ad, inputs: tuple[Tensor, ...]) -> None:
    served = run(model, inputs).served()
    assert {n: tuple(v.shape) for n, v in served.items()} == {"topics_logits": (3, 4), "emotions_logits": (3, 3)}


def test_a_score_depends_on_neither_batch_nor_padding(model: DeepM2Ad, inputs: tuple[Tensor, ...]) -> None:
    together = run(model, inputs)
    image, objects, object_mask, words, word_mask = (x[1:2] for x in inputs)
    alone = run(model, (image, objects[:, :2], object_mask[:, :2], words[:, :3], word_mask[:, :3]))
    for whole, one in zip(together, alone, strict=True):
        torch.testing.assert_close(one[0], whole[1], atol=1e-5, rtol=1e-5)


def test_the_words_go_through_a_bidirectional_lstm(model: DeepM2Ad, inputs: tuple[Tensor, ...]) -> None:
    both = nn.LSTM(5, 4, batch_first=True, bidirectional=True)
    state = {f"{n}_reverse": p for n, p in model.words.backwards.state_dict().items()}
    both.load_state_dict({**model.words.forwards.state_dict(), **state})
    words, mask = inputs[3], inputs[4]
    ours = model.words(words, mask)
    torch.testing.assert_close(ours[1:2, :3], both(words[1:2, :3])[0])
    assert (ours[1, 3:] == 0).all()


def test_attention_is_a_softmax_pooling_per_modality(model: DeepM2Ad, inputs: tuple[Tensor, ...]) -> None:
    attention = model.attention["topic"]
    with torch.no_grad():
        attention.modalities.copy_(torch.tensor([2.0, -1.0, 0.5]))
    z, objects, words = torch.randn(1, 8), torch.randn(1, 3, 8), torch.randn(1, 2, 8)
    real = {"image": torch.ones(1, 1), "objects": torch.ones(1, 3), "words": torch.ones(1, 2)}
    states = {"image": z[:, None], "objects": objects, "words": words}
    fused = attention({name: (states[name], real[name]) for name in states})[0]
    q = attention.queries
    a, b = torch.softmax(objects[0] @ q["objects"], 0), torch.softmax(words[0] @ q["words"], 0)
    torch.testing.assert_close(fused, torch.cat([2.0 * z[0], -(a @ objects[0]), 0.5 * (b @ words[0])]))


def fused(model: DeepM2Ad, *args: Any, **kwargs: Any) -> Tensor:
    """What the topic head reads: B×3D."""
    seen: list[Tensor] = []
    hook = model.heads["topic"].register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    model(*args, **kwargs)
    hook.remove()
    return seen[0]


def test_absent_modalities_are_zeros(model: DeepM2Ad, inputs: tuple[Tensor, ...]) -> None:
    image, objects, object_mask, words, word_mask = inputs
    together = fused(model, *inputs, image_mask=torch.tensor([1, 1, 0]))
    assert (together[2] == 0).all()
    assert (together[:2] != 0).all()
    assert run(model, inputs).reconstruction[2] == 0
    # Absent in every row is the same as masked in each.
    torch.testing.assert_close(fused(model, image=image)[2, :8], fused(model, *inputs)[2, :8])
    assert (fused(model, image=image)[:, 8:] == 0).all()
    none = fused(model, None, objects, object_mask, words, word_mask)
    torch.testing.assert_close(none[:, 8:], fused(model, *inputs)[:, 8:])
    assert (none[:, :8] == 0).all()


def test_words_and_object_names_come_as_rows_of_one_frozen_table(inputs: tuple[Tensor, ...]) -> None:
    model = DeepM2Ad(**SIZES | {"subwords": 20, "object_names": True}).eval()
    rows = torch.tensor([[[3, 4, 0], [5, 0, 0]], [[7, 8, 9], [0, 0, 0]]])
    mask = torch.tensor([[1, 1], [1, 0]])
    output = model(objects=rows, object_mask=mask, words=rows, word_mask=mask)
    table = model.vectors.table.weight  # type: ignore[union-attr]
    assert not table.requires_grad
    vectors = torch.stack([table[[3, 4]].mean(0), table[5]])[None]
    plain = DeepM2Ad(**SIZES | {"object_dim": 5}).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("vectors")}, strict=True)
    same = plain(objects=vectors, object_mask=mask[:1], words=vectors, word_mask=mask[:1])
    torch.testing.assert_close(output.topic_logits[0], same.topic_logits[0])
    with pytest.raises(ValueError, match="give its size as `subwords`"):
        DeepM2Ad(**SIZES | {"object_names": True})


@pytest.mark.parametrize(
    "options",
    [
        {"tasks": ("topic",)}, {"tasks": ("sentiment",)}, {"modalities": ("words",)}, {"modalities": ("image",)},
        {"modalities": ("image", "objects")}, {"autoencoder": False}, {"hierarchical": False},
    ],
)  # fmt: skip
def test_ablations_drop_what_they_name_and_train_the_rest(inputs: tuple[Tensor, ...], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = DeepM2Ad(**SIZES | options)
    whole = DeepM2Ad(**SIZES)
    assert sum(p.numel() for p in model.parameters()) < sum(p.numel() for p in whole.parameters())
    output = run(model, inputs)
    assert (output.topic_logits is None) == ("topic" not in options.get("tasks", ("topic", "sentiment")))
    loss(output, Targets(torch.ones(3, 4), torch.ones(3, 3)))["total"].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_the_mean_stands_for_the_attention_where_that_is_off(inputs: tuple[Tensor, ...]) -> None:
    model = DeepM2Ad(**SIZES | {"hierarchical": False}).eval()
    latent, _ = model.objects(inputs[1], inputs[2])
    torch.testing.assert_close(fused(model, *inputs)[1, 8:16], latent[1, :2].mean(0))


def test_names_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="no modality named 'sound'; choose of image, objects, words"):
        DeepM2Ad(**SIZES | {"modalities": ("image", "sound")})
    with pytest.raises(ValueError, match="no task named None"):
        DeepM2Ad(**SIZES | {"tasks": ()})


def test_over_maps_the_last_one_gives_image_and_regions(inputs: tuple[Tensor, ...]) -> None:
    torch.manual_seed(0)
    core = DeepM2Ad(**SIZES | {"object_dim": 7}).eval()
    model = DeepM2AdOverMaps(core, 7).eval()
    maps = [torch.randn(3, 4, 12, 12), torch.randn(3, 7, 6, 6)]
    output = model(maps, *inputs[3:])
    cells = [
        maps[1][:, :, r : r + 6 // s, c : c + 6 // s]
        for s in (2, 3)
        for r in range(0, 6, 6 // s)
        for c in range(0, 6, 6 // s)
    ]
    regions = torch.stack([cell.mean((2, 3)) for cell in cells], 1)
    expected = core(maps[1].mean((2, 3)), regions, torch.ones(3, 13), *inputs[3:])
    torch.testing.assert_close(output.topic_logits, expected.topic_logits)


def test_gradients_reach_every_parameter_and_the_total_is_equation_18(
    model: DeepM2Ad, inputs: tuple[Tensor, ...]
) -> None:
    targets = Targets(topic=torch.ones(3, 4), sentiment=torch.tensor([[1.0, 0, 1], [0, 0, 1], [float("nan")] * 3]))
    terms = loss(run(model, inputs), targets)
    expected = terms["reconstruction"] + 200 * terms["topic"] + 50 * terms["sentiment"]
    torch.testing.assert_close(terms["total"], expected)
    terms["total"].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
