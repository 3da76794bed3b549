"""DeepM2AD: topics and sentiments of an ad, multi-label, from image, objects and words (seed paper 004).

Shapes: B batch, N items of one modality (objects or words), F feature width, D shared width, K classes.

    (1)–(2) DeepM2Ad.image      (3)–(6) _Objects, loss      (7)–(9) _Words
    (8) word_vectors.WordVectors      (10)–(13) _Attention      (14)–(16) _TaskHead      (17)–(18) loss

What differs from the paper:
- a modality that is absent (no image, no object, no word) gives a zero vector and no reconstruction loss;
- where only the names of objects are known they are embedded by the word table (`object_names`);
- the BiLSTM's backward half reads each row's words from its own last one, not from the padding: scores don't depend
  on the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from admodels.layers.initialised import xavier_linear
from admodels.layers.regions import grid_boxes, pool_regions
from admodels.losses import binary_cross_entropy_logits
from admodels.masking import MASKED, masked_mean
from admodels.word_vectors import WordVectors

TASKS = ("topic", "sentiment")
MODALITIES = ("image", "objects", "words")


class Output(NamedTuple):
    """Independent logits B×K per task, None for one that isn't built; reconstruction: B, squared error per sample,
    averaged over its objects."""

    topic_logits: Tensor | None
    sentiment_logits: Tensor | None
    reconstruction: Tensor

    def served(self) -> dict[str, Tensor]:
        """The ONNX outputs by name. (`sentiment_logits` is FGMFN's and MVLA's: one polarity, not 30 emotions.)"""
        outputs = {"topics_logits": self.topic_logits, "emotions_logits": self.sentiment_logits}
        return {name: logits for name, logits in outputs.items() if logits is not None}


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

    image_dim: of the pooled image vector. object_dim: of a region's features. word_dim: of the word vectors. subwords:
    rows of the word table (`contract.subwords`); then words come as its rows, int64 B×N×G, and with
    `object_names=True` objects too; without, they come as vectors. modalities, tasks: fewer for the ablations, as are
    `autoencoder` (one linear layer, no L_share) and `hierarchical` (means, no scalars).

    forward: image B×F, objects B×N×F and words B×N×F with masks B×N, 1 where real and contiguous from the left;
    image_mask B, 0 where there is no image. A modality that is not given at all is absent in every row.
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
        dropout: float = 0.0,
        subwords: int | None = None,
        object_names: bool = False,
        modalities: Sequence[str] = MODALITIES,
        tasks: Sequence[str] = TASKS,
        autoencoder: bool = True,
        hierarchical: bool = True,
    ) -> None:
        super().__init__()
        _check(modalities, MODALITIES, "modality")
        _check(tasks, TASKS, "task")
        if object_names and subwords is None:
            raise ValueError("object names are embedded by the word table: give its size as `subwords`")
        self.dim, self.modalities, self.object_names = dim, tuple(modalities), object_names
        self.vectors = None if subwords is None else WordVectors(subwords, word_dim)
        if "image" in modalities:
            self.image = nn.Sequential(xavier_linear(image_dim, dim), nn.ReLU(), xavier_linear(dim, dim))
        if "objects" in modalities:
            self.objects = _Objects(word_dim if object_names else object_dim, dim, autoencoder=autoencoder)
        if "words" in modalities:
            self.words = _Words(word_dim, dim)
        counts = {"topic": topics, "sentiment": sentiments}
        self.attention = nn.ModuleDict({t: _Attention(dim, modalities, hierarchical=hierarchical) for t in tasks})
        width = dim * len(modalities)
        self.heads = nn.ModuleDict({t: _TaskHead(width, head_hidden, counts[t], dropout) for t in tasks})

    def forward(
        self,
        image: Tensor | None = None,
        objects: Tensor | None = None,
        object_mask: Tensor | None = None,
        words: Tensor | None = None,
        word_mask: Tensor | None = None,
        image_mask: Tensor | None = None,
    ) -> Output:
        given = next(x for x in (image, objects, words) if x is not None)
        none = torch.zeros(given.shape[0], 1, device=given.device)  # B×1; `len` would fix the size in an exported graph
        # (1)–(9): states B×N×D and mask B×N by modality
        z = dict.fromkeys(self.modalities, (none[:, :, None].expand(-1, -1, self.dim), none))
        error = none.squeeze(1)
        if "image" in z and image is not None:
            mask = torch.ones_like(none) if image_mask is None else image_mask[:, None].float()
            z["image"] = (self.image(image)[:, None] * mask[:, :, None], mask)  # (2)
        if "objects" in z and objects is not None and object_mask is not None:
            features = self.vectors(objects) if self.object_names and self.vectors is not None else objects
            latent, error = self.objects(features, object_mask)  # (4)–(6)
            z["objects"] = (latent, object_mask)
        if "words" in z and words is not None and word_mask is not None:
            vectors = words if self.vectors is None else self.vectors(words)  # (8)
            z["words"] = (self.words(vectors, word_mask), word_mask)  # (9)
        logits = {task: self.heads[task](attend(z)) for task, attend in self.attention.items()}
        return Output(logits.get("topic"), logits.get("sentiment"), error)


class DeepM2AdOverMaps(nn.Module):
    """DeepM2AD where an image encoder's maps stand for image and regions, so that it can be served.

    forward: maps B×C×h×w, words (rows or vectors) and their mask, a detector's objects and their mask. The image is the
    mean of the last map (1); without objects they are the last map's means over a fixed grid (`layers.regions`).
    """

    def __init__(self, head: DeepM2Ad, channels: int, *, normalise_maps: bool = False) -> None:
        super().__init__()
        self.head = head
        self.norm = nn.BatchNorm2d(channels, affine=False) if normalise_maps else nn.Identity()
        self.register_buffer("grid", grid_boxes(), persistent=False)

    def forward(
        self,
        maps: Sequence[Tensor],
        words: Tensor,
        word_mask: Tensor,
        objects: Tensor | None = None,
        object_mask: Tensor | None = None,
    ) -> Output:
        features = self.norm(maps[-1])
        if objects is None and not self.head.object_names:
            grid: Tensor = self.grid  # type: ignore[assignment]
            objects = pool_regions(features, grid.expand(features.shape[0], -1, -1))
            object_mask = torch.ones_like(objects[:, :, 0])
        output: Output = self.head(features.mean((2, 3)), objects, object_mask, words, word_mask)
        return output


class _Objects(nn.Module):
    """(4)–(6): autoencoder. B×N×F → latent B×N×D and the squared error B, summed over F, averaged over real objects."""

    def __init__(self, features: int, dim: int, *, autoencoder: bool) -> None:
        super().__init__()
        if autoencoder:
            self.encode: nn.Module = nn.Sequential(xavier_linear(features, dim), nn.ReLU(), xavier_linear(dim, dim))
            self.decode: nn.Module | None = nn.Sequential(
                xavier_linear(dim, dim), nn.ReLU(), xavier_linear(dim, features)
            )
        else:
            self.encode, self.decode = xavier_linear(features, dim), None

    def forward(self, objects: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        latent = self.encode(objects)
        if self.decode is None:
            return latent, torch.zeros_like(latent[:, 0, 0])
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
        # By `turn`'s own sizes: torch takes the number of words that an LSTM gives for a constant when it exports.
        states = torch.cat([ahead, back.gather(1, turn.expand(-1, -1, back.shape[2]))], dim=2)
        return states * mask[:, :, None].to(states.dtype)


def _reversal(mask: Tensor) -> Tensor:
    """B×N: the index that reverses each row's real items and leaves padding where it is; its own inverse."""
    position = torch.arange(mask.shape[1], device=mask.device)[None]
    length = mask.long().sum(1, keepdim=True)
    return torch.where(position < length, length - 1 - position, position)


class _Attention(nn.Module):
    """(10)–(13): softmax(qᵀz) pooling within objects and words, then one learned scalar per modality → B×D·modalities.

    The scalars pass no softmax and may become negative. The image is one vector, which needs no pooling.
    """

    def __init__(self, dim: int, modalities: Sequence[str], *, hierarchical: bool) -> None:
        super().__init__()
        self.names = tuple(modalities)
        self.queries = nn.ParameterDict(
            {
                name: nn.Parameter(torch.randn(dim) * dim**-0.5)
                for name in modalities
                if hierarchical and name != "image"
            }
        )
        self.modalities = nn.Parameter(torch.ones(len(modalities))) if hierarchical else None

    def forward(self, z: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        parts = [
            _attend(*z[name], self.queries[name]) if name in self.queries else masked_mean(*z[name])
            for name in self.names
        ]
        if self.modalities is not None:
            parts = [self.modalities[i] * part for i, part in enumerate(parts)]
        return torch.cat(parts, dim=1)


def _attend(z: Tensor, mask: Tensor, query: Tensor) -> Tensor:
    """(10)–(12): B×N×D → B×D; zeros where the modality is absent."""
    real = mask.to(z.dtype)
    weights = torch.softmax(z @ query + (1.0 - real) * MASKED, dim=1) * real  # B×N
    return (weights[:, None] @ z).squeeze(1)


class _TaskHead(nn.Module):
    """(14)–(16) without the sigmoid: B×3D → logits B×K."""

    def __init__(self, width: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(dropout),
            xavier_linear(width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            xavier_linear(hidden, classes),
        )

    def forward(self, z: Tensor) -> Tensor:
        logits: Tensor = self.layers(z)
        return logits


def _check(given: Sequence[str], known: Sequence[str], what: str) -> None:
    wrong = [name for name in given if name not in known]
    if wrong or not given:
        raise ValueError(f"no {what} named {wrong[0] if wrong else None!r}; choose of {', '.join(known)}, at least one")


def loss(output: Output, targets: Targets, *, weights: Weights = PAPER_WEIGHTS) -> dict[str, Tensor]:
    """(18) by term, and the weighted sum as `total`; tasks without targets are left out."""
    terms = {"reconstruction": output.reconstruction.mean()}
    total = weights.reconstruction * terms["reconstruction"]
    if targets.topic is not None and output.topic_logits is not None:
        terms["topic"] = binary_cross_entropy_logits(output.topic_logits, targets.topic)
        total = total + weights.topic * terms["topic"]
    if targets.sentiment is not None and output.sentiment_logits is not None:
        terms["sentiment"] = binary_cross_entropy_logits(output.sentiment_logits, targets.sentiment)
        total = total + weights.sentiment * terms["sentiment"]
    return {"total": total, **terms}
