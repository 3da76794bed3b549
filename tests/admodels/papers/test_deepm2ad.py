"""DeepM2AD's equations, absent modalities, and what must not change a score."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from admodels.papers.deepm2ad import DeepM2Ad, Output, Targets, loss


@pytest.fixture
def model() -> DeepM2Ad:
    torch.manual_seed(0)
    sizes = {"image_dim": 7, "object_dim": 6, "word_dim": 5, "dim": 8, "head_hidden": 9, "topics": 4, "sentiments": 3}
    return DeepM2Ad(**sizes).eval()


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
    assert {n: tuple(v.shape) for n, v in served.items()} == {"topic_logits": (3, 4), "sentiment_logits": (3, 3)}


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
    fused = attention(z, objects, torch.ones(1, 3), words, torch.ones(1, 2))[0]
    a, b = torch.softmax(objects[0] @ attention.object_query, 0), torch.softmax(words[0] @ attention.word_query, 0)
    torch.testing.assert_close(fused, torch.cat([2.0 * z[0], -(a @ objects[0]), 0.5 * (b @ words[0])]))


def test_absent_modalities_are_zeros(model: DeepM2Ad, inputs: tuple[Tensor, ...]) -> None:
    image, objects, object_mask, words, word_mask = inputs
    fused = model.attention["topic"](
        model.image(image),
        model.objects(objects, object_mask)[0],
        object_mask,
        model.words(words, word_mask),
        word_mask,
    )
    assert (fused[2, 8:] == 0).all()
    assert run(model, inputs).reconstruction[2] == 0


def test_gradients_reach_every_parameter_and_the_total_is_equation_18(
    model: DeepM2Ad, inputs: tuple[Tensor, ...]
) -> None:
    targets = Targets(topic=torch.ones(3, 4), sentiment=torch.tensor([[1.0, 0, 1], [0, 0, 1], [float("nan")] * 3]))
    terms = loss(run(model, inputs), targets)
    expected = terms["reconstruction"] + 200 * terms["topic"] + 50 * terms["sentiment"]
    torch.testing.assert_close(terms["total"], expected)
    terms["total"].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
