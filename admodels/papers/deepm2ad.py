"""DeepM2AD: topics and sentiments of an ad, multi-label, from image, objects and words (seed paper 004).

Shapes: B batch, N items of one modality (objects or words), F feature width, D shared width, K classes.

    (1)–(2) DeepM2Ad.image      (3)–(6) _Objects, loss      (7)–(9) _Words
    (10)–(13) _Attention        (14)–(16) _TaskHead         (17)–(18) loss

What differs from the paper:
- a modality that is absent (no object, no word) gives a zero vector and no reconstruction loss;
- the BiLSTM's backward half reads each row's words from its own last one, not from the padding: scores don't depend
  on the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from admodels.layers.initialised import xavier_linear
from admodels.losses import binary_cross_entropy_logits
from admodels.masking import MASKED, masked_mean

TASKS = ("topic", "sentiment")


class Output(NamedTuple):
    """Independent logits B×K per task; reconstruction: B, squared error per sample, averaged over its objects."""

    topic_logits: Tensor
    sentiment_logits: Tensor
    reconstruction: Tensor

    def served(self) -> dict[str, Tensor]:
        """The ONNX outputs by name."""
        return {"topic_logits": self.topic_logits, "sentiment_logits": self.sentiment_logits}


class Targets(NamedTuple):
    """Float B×K in {0, 1}, NaN missing: a label holds when any annotator chose it."""

    topic: Tensor | None = None
    sentiment: Tensor | None = None


class Weights(NamedTuple):
    """Of the terms of (18)."""

    reconstruction: float = 1.0
    topic: float = 200.0
    sentiment: float = 50.0


PAPER_WEIGHTS = Weights()


class DeepM2Ad(nn.Module):
    """The model over features; the defaults are the paper's size.

    image_dim: of the pooled image vector. object_dim: of a region's features or of an object name's embedding.
    word_dim: of the word vectors. forward: image B×F, objects B×N×F and words B×N×F with masks B×N, 1 where real
    and contiguous from the left.
    """

    def __init__(
        self,
        *,
        image_dim: int = 2048,
        object_dim: int = 4096,
        word_dim: int = 300,
        dim: int = 1024,
        head_hidden: int = 512,
        topics: int = 38,
        sentiments: int = 30,
    ) -> None:
        super().__init__()
        self.image = nn.Sequential(xavier_linear(image_dim, dim), nn.ReLU(), xavier_linear(dim, dim))
        self.objects = _Objects(object_dim, dim)
        self.words = _Words(word_dim, dim)
        counts = {"topic": topics, "sentiment": sentiments}
        self.attention = nn.ModuleDict({task: _Attention(dim) for task in TASKS})
        self.heads = nn.ModuleDict({task: _TaskHead(3 * dim, head_hidden, counts[task]) for task in TASKS})

    def forward(self, image: Tensor, objects: Tensor, object_mask: Tensor, words: Tensor, word_mask: Tensor) -> Output:
        z_image = self.image(image)  # (2) B×D
        z_objects, error = self.objects(objects, object_mask)  # (4)–(6) B×N×D, B
        z_words = self.words(words, word_mask)  # (9) B×N×D
        logits = {
            task: self.heads[task](self.attention[task](z_image, z_objects, object_mask, z_words, word_mask))
            for task in TASKS
        }
        return Output(logits["topic"], logits["sentiment"], error)


class _Objects(nn.Module):
    """(4)–(6): autoencoder. B×N×F → latent B×N×D and the squared error B, summed over F, averaged over real objects."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(xavier_linear(features, dim), nn.ReLU(), xavier_linear(dim, dim))
        self.decode = nn.Sequential(xavier_linear(dim, dim), nn.ReLU(), xavier_linear(dim, features))

    def forward(self, objects: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        latent = self.encode(objects)
        squared = (self.decode(latent) - objects).square().sum(-1, keepdim=True)  # B×N×1
        return latent, masked_mean(squared, mask).squeeze(1)


class _Words(nn.Module):
    """(9): bidirectional LSTM over B×N×F → B×N×D, half of D per direction; zero at padding."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.forwards = nn.LSTM(features, dim // 2, batch_first=True)
        self.backwards = nn.LSTM(features, dim - dim // 2, batch_first=True)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        turn = _reversal(mask)[:, :, None]  # B×N×1
        ahead = self.forwards(words)[0]
        back = self.backwards(words.gather(1, turn.expand_as(words)))[0]
        states = torch.cat([ahead, back.gather(1, turn.expand_as(back))], dim=2)
        return states * mask[:, :, None].to(states.dtype)


def _reversal(mask: Tensor) -> Tensor:
    """B×N: the index that reverses each row's real items and leaves padding where it is; its own inverse."""
    position = torch.arange(mask.shape[1], device=mask.device)[None]
    length = mask.sum(1, keepdim=True)
    return torch.where(position < length, length - 1 - position, position)


class _Attention(nn.Module):
    """(10)–(13): softmax(qᵀz) pooling within objects and words, then one learned scalar per modality → B×3D.

    The scalars pass no softmax and may become negative.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.object_query = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.word_query = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.modalities = nn.Parameter(torch.ones(3))

    def forward(self, image: Tensor, objects: Tensor, object_mask: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        parts = (
            image,
            _attend(objects, object_mask, self.object_query),
            _attend(words, word_mask, self.word_query),
        )
        return torch.cat([self.modalities[i] * part for i, part in enumerate(parts)], dim=1)


def _attend(z: Tensor, mask: Tensor, query: Tensor) -> Tensor:
    """(10)–(12): B×N×D → B×D; zeros where the modality is absent."""
    real = mask.to(z.dtype)
    weights = torch.softmax(z @ query + (1.0 - real) * MASKED, dim=1) * real  # B×N
    return (weights[:, None] @ z).squeeze(1)


class _TaskHead(nn.Module):
    """(14)–(16) without the sigmoid: B×3D → logits B×K."""

    def __init__(self, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(xavier_linear(width, hidden), nn.ReLU(), xavier_linear(hidden, classes))

    def forward(self, z: Tensor) -> Tensor:
        logits: Tensor = self.layers(z)
        return logits


def loss(output: Output, targets: Targets, *, weights: Weights = PAPER_WEIGHTS) -> dict[str, Tensor]:
    """(18) by term, and the weighted sum as `total`; tasks without targets are left out."""
    terms = {"reconstruction": output.reconstruction.mean()}
    total = weights.reconstruction * terms["reconstruction"]
    if targets.topic is not None:
        terms["topic"] = binary_cross_entropy_logits(output.topic_logits, targets.topic)
        total = total + weights.topic * terms["topic"]
    if targets.sentiment is not None:
        terms["sentiment"] = binary_cross_entropy_logits(output.sentiment_logits, targets.sentiment)
        total = total + weights.sentiment * terms["sentiment"]
    return {"total": total, **terms}
