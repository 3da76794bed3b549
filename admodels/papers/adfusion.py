"""AdFusion: 13 heads from theme to CTR and shares, on image and text that guide each other (seed draft, 2025).

Shapes: B batch, L tokens, E text width, D width, S grid side, V = S·S visual tokens, K classes.

    B (multiscale fusion) layers.multiscale.MultiScale      A.3 Adfusion.project_text
    C.2–C.3 layers.attention.CrossModalEncoder              C.4 Adfusion.join
    D.1 supervised      D.2 losses.info_nce      D.3 agreement      D.4 loss

What differs from the paper:
- ⊕ can't add 3d and d channels: each scale is projected to d, their concatenation projected to d, their mean added;
  the common grid is the middle scale's;
- the visual side stays a sequence, so that cross-attention has something to attend to;
- "predicted distribution of a pathway" (D.3): the same heads on each path's pooled vector before the paths meet,
  trained on the labels too, and the visual path drawn to the detached textual one.
`multi_scale=False` (the last map alone) and `cross_attention=False` are ablations; a weight of 0 leaves a loss out, and
fewer `classes` and `values` leave tasks out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from admodels.heads import MultiTaskHeads, Predictions, Targets
from admodels.layers.attention import CrossModalEncoder
from admodels.layers.initialised import xavier_linear
from admodels.layers.multiscale import LastScale, MultiScale
from admodels.losses import (
    bernoulli_kl,
    binary_cross_entropy,
    binary_cross_entropy_logits,
    categorical_kl,
    cross_entropy,
    info_nce,
)
from admodels.masking import additive_mask, masked_mean

CLASSES = (
    "theme",
    "sentiment",
    "emotion",
    "audience",
    "call_to_action",
    "monetary_mention",
    "object",
    "dominant_colour",
    "trust",
)
VALUES = ("attention", "ctr", "share_likelihood")
__all__ = ["CLASSES", "VALUES", "Adfusion", "Output", "Targets", "Weights", "loss"]


class Output(NamedTuple):
    """Predictions of the fused path; the rest is for the losses."""

    fused: Predictions
    text_vector: Tensor
    """B×D, pooled text after cross-attention."""
    image_vector: Tensor
    """B×D, pooled image after cross-attention."""
    itc_scale: Tensor
    """Scalar, logarithm of 1 / temperature."""
    text_path: Predictions
    image_path: Predictions

    @property
    def classes(self) -> dict[str, Tensor]:
        return self.fused.classes

    @property
    def keywords(self) -> Tensor | None:
        return self.fused.keywords

    @property
    def values(self) -> dict[str, Tensor]:
        return self.fused.values

    def served(self) -> dict[str, Tensor]:
        """The ONNX outputs by name."""
        outputs = {**self.values, **{f"{name}_logits": logits for name, logits in self.classes.items()}}
        return outputs if self.keywords is None else {**outputs, "keywords_logits": self.keywords}


class Weights(NamedTuple):
    """α, β, γ of D.4 and the label smoothing."""

    task: float = 1.0
    itc: float = 0.1
    mi: float = 0.05
    smoothing: float = 0.0


PAPER_WEIGHTS = Weights()


class Adfusion(nn.Module):
    """The model over encoder features; the defaults are the paper's size.

    map_channels, map_sizes: of the low, middle and high maps, finest first. text_dim: width of the tokens. classes:
    number of classes per class head (names of `CLASSES`), keywords: size of the keyword vocabulary, 0 for none,
    values: which of `VALUES`. grid: side of the common grid, by default the middle map's (a coarser one is cheaper).
    forward: maps B×C×S×S each, tokens B×L×E, mask int64 B×L.
    """

    def __init__(
        self,
        *,
        map_channels: Sequence[int],
        map_sizes: Sequence[int],
        text_dim: int,
        classes: Mapping[str, int],
        keywords: int = 0,
        values: Sequence[str] = VALUES,
        dim: int = 512,
        layers: int = 2,
        heads: int = 8,
        hidden: int = 2048,
        dropout: float = 0.1,
        normalise_maps: bool = False,
        grid: int | None = None,
        multi_scale: bool = True,
        cross_attention: bool = True,
    ) -> None:
        super().__init__()
        _check_names(classes, values)
        common = grid or map_sizes[len(map_sizes) // 2]
        scales = MultiScale if multi_scale else LastScale
        self.image = scales(map_channels, map_sizes, common, dim, normalise=normalise_maps)
        self.norm_image = nn.LayerNorm(dim)
        self.project_text = nn.Sequential(xavier_linear(text_dim, dim), nn.LayerNorm(dim))
        self.cross = CrossModalEncoder(
            dim, layers=layers if cross_attention else 0, heads=heads, hidden=hidden, dropout=dropout
        )
        self.join = nn.Sequential(xavier_linear(2 * dim, dim), nn.GELU(), nn.Dropout(dropout))
        self.heads = MultiTaskHeads(dim, classes=classes, keywords=keywords, values=values)
        self.itc_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, maps: Sequence[Tensor], tokens: Tensor, mask: Tensor) -> Output:
        image = self.norm_image(self.image(maps).flatten(2).transpose(1, 2))  # B×V×D
        text = self.project_text(tokens)  # B×L×D
        image_after, text_after = self.cross(image, text, additive_mask(mask))
        image_vector, text_vector = image_after.mean(1), masked_mean(text_after, mask)  # B×D
        fused = self.join(torch.cat([image_vector, text_vector], dim=1))  # B×D
        return Output(
            fused=self.heads(fused),
            text_vector=text_vector,
            image_vector=image_vector,
            itc_scale=self.itc_scale,
            text_path=self.heads(masked_mean(text, mask)),
            image_path=self.heads(image.mean(1)),
        )


def loss(output: Output, targets: Targets, *, weights: Weights = PAPER_WEIGHTS) -> dict[str, Tensor]:
    """D.4 by term, and the weighted sum as `total`; beside them each supervised head's own loss by its name."""
    each = supervised(output.fused, targets, smoothing=weights.smoothing)
    paths = [supervised(path, targets, smoothing=weights.smoothing) for path in (output.text_path, output.image_path)]
    task = _sum(each, output)
    itc = info_nce(output.text_vector, output.image_vector, output.itc_scale)
    mi = agreement(output.text_path, output.image_path) + sum(_sum(path, output) for path in paths)
    total = weights.task * task + weights.itc * itc + weights.mi * mi
    return {"total": total, "task": task, "itc": itc, "mi": mi, **each}


def supervised(predictions: Predictions, targets: Targets, *, smoothing: float = 0.0) -> dict[str, Tensor]:
    """One loss per head that `targets` names: cross-entropy, or binary cross-entropy for keywords and values."""
    losses = {
        name: cross_entropy(predictions.classes[name], labels, smoothing=smoothing)
        for name, labels in targets.classes.items()
    }
    if targets.keywords is not None and predictions.keywords is not None:
        losses["keywords"] = binary_cross_entropy_logits(predictions.keywords, targets.keywords)
    for name, values in targets.values.items():
        losses[name] = binary_cross_entropy(predictions.values[name], values)
    return losses


def agreement(p: Predictions, q: Predictions) -> Tensor:
    """Mean over the heads of KL(p ‖ q), p detached: q is drawn to p."""
    terms = [categorical_kl(p.classes[name].detach(), q.classes[name]) for name in p.classes]
    if p.keywords is not None and q.keywords is not None:
        terms.append(bernoulli_kl(torch.sigmoid(p.keywords.detach()), torch.sigmoid(q.keywords)))
    terms += [bernoulli_kl(p.values[name].detach(), q.values[name]) for name in p.values]
    return torch.stack(terms).mean()


def _sum(losses: Mapping[str, Tensor], output: Output) -> Tensor:
    return torch.stack([output.itc_scale.new_zeros(()), *losses.values()]).sum()


def _check_names(classes: Mapping[str, int], values: Sequence[str]) -> None:
    unknown = [name for name in classes if name not in CLASSES] + [name for name in values if name not in VALUES]
    if unknown:
        raise ValueError(f"no head named {unknown[0]!r}; heads are {', '.join((*CLASSES, *VALUES))} and keywords")
