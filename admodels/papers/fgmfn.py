"""FGMFN: sentiment polarity of an ad from fine-grained multi-scale fusion (seed paper, YTB-ADS).

Shapes: B batch, L tokens, E text width, D width, S side of the high grid, V = S·S visual tokens, K classes.

    (2) _sentence    (3)–(4) _FineGrained    (5)–(6) layers.attention.CrossModalEncoder    (7) Fgmfn.classify
    (8), (12) loss   (9) losses.info_nce     (10) crf.LinearChainCrf    (11) losses.categorical_kl

What differs from the paper, and where its form is an option:
- a tanh right before the softmax caps p at .787 for three classes: linear → tanh → linear here
  (`classifier="tanh_logits"` is the paper's);
- Mean(v_high) in (4) is the spatial mean, projected to the width and added at every position;
- a sample has one label and the paths differ in length: each path is pooled to one CRF step, the KL draws the visual
  path to the detached textual one, and both carry the label loss, without which they meet at a constant;
- the vectors of (9) are taken before the modalities meet: after cross-attention each already holds the other.
With frozen sentence encoders the mean over the tokens may stand for the sentence (`sentence="mean"`); the paper's is
the first token. `multi_scale=False` (one 1×1 convolution on the last map) and `cross_attention=False` are the paper's
ablations; those of ITC and MI are weights of 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from admodels.crf import LinearChainCrf
from admodels.layers.attention import CrossModalEncoder
from admodels.layers.initialised import he_conv, xavier_linear
from admodels.layers.multiscale import Concatenate, LastScale
from admodels.losses import categorical_kl, cross_entropy, info_nce
from admodels.masking import additive_mask, masked_mean

LEVELS = 5


class Output(NamedTuple):
    """logits B×K; the rest is for the losses."""

    logits: Tensor
    text_vector: Tensor
    image_vector: Tensor
    """B×D each, not normalised."""
    itc_scale: Tensor
    """Scalar, logarithm of 1 / temperature."""
    text_path: Tensor
    image_path: Tensor
    """B×K each, log-probabilities of the CRF's one step."""

    def served(self) -> dict[str, Tensor]:
        """The ONNX outputs by name."""
        return {"sentiment_logits": self.logits}


class Targets(NamedTuple):
    """label: int64 B, −1 missing."""

    label: Tensor


class Weights(NamedTuple):
    """α and β of (12), the label loss of the two paths, label smoothing, and a weight per class."""

    itc: float = 0.5
    mi: float = 0.05
    paths: float = 1.0
    smoothing: float = 0.0
    class_weights: Tensor | None = None


PAPER_WEIGHTS = Weights()


class Fgmfn(nn.Module):
    """The model over encoder features; the defaults are the paper's size.

    map_channels, map_sizes: of all five maps, finest first. text_dim: width of the tokens. classes: K. high_level:
    which map's grid (4 or 5) the visual tokens lie on; the low maps are joined on the grid one level finer.
    forward: maps B×C×S×S each, tokens B×L×E, mask int64 B×L.
    """

    def __init__(
        self,
        *,
        map_channels: Sequence[int],
        map_sizes: Sequence[int],
        text_dim: int,
        classes: int = 3,
        dim: int = 768,
        layers: int = 2,
        heads: int = 8,
        hidden: int = 3072,
        dropout: float = 0.1,
        high_level: int = 4,
        sentence: Literal["first", "mean"] = "first",
        classifier: Literal["linear", "tanh_logits"] = "linear",
        normalise_maps: bool = False,
        multi_scale: bool = True,
        cross_attention: bool = True,
    ) -> None:
        super().__init__()
        self.sentence = sentence
        self.image: nn.Module = (
            _FineGrained(map_channels, map_sizes, dim, high_level, normalise=normalise_maps)
            if multi_scale
            else LastScale(map_channels, map_sizes, map_sizes[-1], dim, normalise=normalise_maps)
        )
        self.norm_image = nn.LayerNorm(dim)
        self.project_text = nn.Sequential(xavier_linear(text_dim, dim), nn.LayerNorm(dim))
        self.cross = CrossModalEncoder(
            dim, layers=layers if cross_attention else 0, heads=heads, hidden=hidden, dropout=dropout
        )
        self.classify = _classifier(2 * dim, dim, classes, dropout, tanh_logits=classifier == "tanh_logits")
        self.itc_text = xavier_linear(dim, dim)
        self.itc_image = xavier_linear(dim + map_channels[-1], dim)
        self.itc_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.emit_text = xavier_linear(dim, classes)
        self.emit_image = xavier_linear(dim, classes)
        self.crf = LinearChainCrf(classes)

    def forward(self, maps: Sequence[Tensor], tokens: Tensor, mask: Tensor) -> Output:
        image = self.norm_image(self.image(maps).flatten(2).transpose(1, 2))  # (3)–(4) B×V×D
        text = self.project_text(tokens)  # B×L×D
        image_after, text_after = self.cross(image, text, additive_mask(mask))  # (5)–(6)
        z = torch.cat([image_after.mean(1), self._sentence(text_after, mask)], dim=1)  # B×2D
        sentence, scene = self._sentence(text, mask), image.mean(1)  # (2) B×D
        whole = maps[-1].mean((2, 3))  # v^(g): B×C
        return Output(
            logits=self.classify(z),  # (7) B×K
            text_vector=self.itc_text(sentence),
            image_vector=self.itc_image(torch.cat([scene, whole], dim=1)),
            itc_scale=self.itc_scale,
            text_path=self._path(self.emit_text(sentence)),
            image_path=self._path(self.emit_image(scene)),
        )

    def _sentence(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return tokens[:, 0] if self.sentence == "first" else masked_mean(tokens, mask)

    def _path(self, emissions: Tensor) -> Tensor:
        """(10) for a sequence of one step: B×K emissions → B×K log-probabilities."""
        return self.crf.log_marginals(emissions[:, None], torch.ones_like(emissions[:, :1])).squeeze(1)


class _FineGrained(nn.Module):
    """(3)–(4): five maps → v_lh B×D×S×S, the low ones strided onto the high grid, plus the projected mean of v_high."""

    def __init__(
        self, channels: Sequence[int], sizes: Sequence[int], dim: int, high_level: int, *, normalise: bool
    ) -> None:
        super().__init__()
        if len(channels) != LEVELS or high_level not in (4, 5):
            raise ValueError(
                f"FGMFN reads {LEVELS} maps on the grid of the 4th or 5th; got {len(channels)} maps, "
                f"high_level {high_level}"
            )
        fine, grid = sizes[high_level - 2], sizes[high_level - 1]
        self.low = Concatenate(channels[:3], sizes[:3], fine, normalise=normalise)
        self.high = Concatenate(channels[3:], sizes[3:], grid, normalise=normalise)
        self.reduce_low = nn.Sequential(he_conv(self.low.channels, dim // 2, 3, stride=2), nn.ReLU())
        self.reduce_high = nn.Sequential(he_conv(self.high.channels, dim - dim // 2, 1), nn.ReLU())
        self.mean = xavier_linear(self.high.channels, dim)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        low, high = self.low(maps[:3]), self.high(maps[3:])  # (3) B×C×2S×2S, B×C×S×S
        joined = torch.cat([self.reduce_low(low), self.reduce_high(high)], dim=1)  # B×D×S×S
        return joined + self.mean(high.mean((2, 3)))[:, :, None, None]  # (4)


def _classifier(width: int, hidden: int, classes: int, dropout: float, *, tanh_logits: bool) -> nn.Sequential:
    if tanh_logits:
        return nn.Sequential(nn.Dropout(dropout), xavier_linear(width, classes), nn.Tanh())
    return nn.Sequential(
        nn.Dropout(dropout),
        xavier_linear(width, hidden),
        nn.Tanh(),
        nn.Dropout(dropout),
        xavier_linear(hidden, classes),
    )


def loss(output: Output, targets: Targets, *, weights: Weights = PAPER_WEIGHTS) -> dict[str, Tensor]:
    """(12) by term, and the weighted sum as `total`."""

    def labelled(logits: Tensor) -> Tensor:
        return cross_entropy(logits, targets.label, smoothing=weights.smoothing, weight=weights.class_weights)

    task = labelled(output.logits)  # (8)
    itc = info_nce(output.text_vector, output.image_vector, output.itc_scale)  # (9)
    mi = categorical_kl(output.text_path.detach(), output.image_path)  # (11)
    paths = labelled(output.text_path) + labelled(output.image_path)
    total = task + weights.itc * itc + weights.mi * (mi + weights.paths * paths)
    return {"total": total, "task": task, "itc": itc, "mi": mi, "paths": paths}
