"""MVLA: what an ad's copy feels about what, span by span, read with the image (seed paper 001).

Shapes: B batch, L tokens, N tokens of the copy, E token width, D BERT width, M BERT layers, e levels, R regions,
P = 1 + R prefix length, C channels, K = 7 labels, A adjective-noun pairs.

    (1)–(3) admodels.context, contract.text     (4) crf.LinearChainCrf, one_span_scores   (5)–(6) _Levels
    (7) Mvla.anps      (8) losses.top_cross_entropy      (9)–(11) _LayerPrefix     (12) layers.prefix.PrefixLayers
    (13) losses.marginal_kl      (14)–(15) loss

What differs from the paper, and where its form is an option:
- the chain runs over the copy's tokens in both passes: nothing is known of the labels of the visual context, and S and
  S+N differ in length. (13) is the KL between the token marginals of the two chains, S detached: the visual path is
  drawn to the textual one, which learns from the labels alone. `Weights.visual_label` adds the label loss on S+N;
- where a text has one label, the whole copy is one span (`one_span`), and `sentiment_logits` are the chain's scores
  of the three readings of that kind: softmax over them is the chain's own posterior;
- without a teacher there is no ANP head (`anps=0`) and no (8);
- regions are pooled from the image's own maps; the paper encodes each as an image of its own (`crops` of
  `MvlaWithEncoders`). Without a detector's boxes they are a fixed grid (`layers.regions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from admodels.contract.viterbi import bio_labels
from admodels.crf import LinearChainCrf
from admodels.layers.initialised import xavier_linear
from admodels.layers.prefix import PrefixLayers
from admodels.layers.regions import crop_regions, grid_boxes, pool_regions
from admodels.losses import marginal_kl, top_cross_entropy
from admodels.masking import additive_mask, gather_marked

POLARITIES = ("negative", "neutral", "positive")
LABELS = bio_labels(POLARITIES)


class Text(NamedTuple):
    """tokens: float B×L×E, what stands for the words; mask, copy: int64 B×L, 1 at real tokens and at the copy's.

    Every row has at least one token of copy (`contract.text.copy_mask`).
    """

    tokens: Tensor
    mask: Tensor
    copy: Tensor


class Output(NamedTuple):
    """emissions: B×L×K of the S+N pass, at every token. The rest is for the losses."""

    emissions: Tensor
    copy: Tensor
    sentiment_logits: Tensor
    """B×3, scores of the whole copy as one span."""
    anp_logits: Tensor | None
    alone: Tensor | None
    """B×L'×K, emissions of the S pass, where it ran."""
    alone_copy: Tensor | None
    crf: LinearChainCrf

    def served(self) -> dict[str, Tensor]:
        """The ONNX outputs by name."""
        outputs = {"sentiment_logits": self.sentiment_logits, "aspect_emissions": self.emissions}
        return outputs if self.anp_logits is None else {**outputs, "anp_logits": self.anp_logits}


class Targets(NamedTuple):
    """labels: int64 B×N over the copy's tokens in order (`LABELS`), −1 behind the last one; a row of −1 is missing.

    anps: float B×A, a teacher's probabilities; zeros are missing.
    """

    labels: Tensor
    anps: Tensor | None = None


class Weights(NamedTuple):
    """η, ω and ε of (15), V of (8), and the label loss on S+N, which the paper has not."""

    text: float = 1.0
    anp: float = 1.0
    kl: float = 0.3
    top: int = 10
    visual_label: float = 0.0
    per_token: bool = False
    """Divide the chain's terms by the copy's length; the paper's are sums over it."""


PAPER_WEIGHTS = Weights()


class Mvla(nn.Module):
    """The model over feature maps and token embeddings; the defaults are the paper's size.

    layers: BERT's. map_channels: of the levels, finest first (pixel, region, object; fewer for the ablation). text_dim:
    width of the tokens; None: they are BERT's own embeddings already. dim: D, width of a level; width: of the layers.
    forward: maps B×C×h×w each, text S+N, alone S (training only), boxes float B×R×4 of a detector, crops the maps of
    the regions as images of their own, (B·R)×C×h×w each.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        *,
        width: int,
        map_channels: Sequence[int],
        text_dim: int | None = None,
        dim: int = 768,
        anps: int = 0,
        dropout: float = 0.1,
        prefix: bool = True,
        regions: bool = True,
        normalise_maps: bool = False,
    ) -> None:
        super().__init__()
        self.regions = regions
        self.project_text: nn.Module = (
            nn.Identity() if text_dim is None else nn.Sequential(xavier_linear(text_dim, width), nn.LayerNorm(width))
        )
        self.layers = PrefixLayers(layers)
        self.levels = _Levels(map_channels, dim, normalise=normalise_maps) if prefix or anps else None
        count = len(self.layers) if prefix else 0
        self.prefixes = nn.ModuleList(_LayerPrefix(dim, width, len(map_channels)) for _ in range(count))
        self.anps = xavier_linear(dim, anps) if anps else None
        self.dropout = nn.Dropout(dropout)
        self.emit = xavier_linear(width, len(LABELS))
        self.crf = LinearChainCrf(len(LABELS))
        self.register_buffer("grid", grid_boxes(), persistent=False)

    def forward(
        self,
        maps: Sequence[Tensor],
        text: Text,
        alone: Text | None = None,
        boxes: Tensor | None = None,
        crops: Sequence[Tensor] | None = None,
    ) -> Output:
        count = maps[0].shape[0]
        levels = None if self.levels is None else self.levels(maps, self.boxes(count, boxes), crops)  # B×P×e×D
        prefixes = [prefix(levels) for prefix in self.prefixes] or None
        emissions = self._emissions(text, prefixes)
        return Output(
            emissions=emissions,
            copy=text.copy,
            sentiment_logits=one_span_scores(self.crf, emissions, text.copy),
            # (7): the mean over the levels of the whole image
            anp_logits=None if self.anps is None or levels is None else self.anps(levels[:, 0].mean(1)),
            alone=None if alone is None else self._emissions(alone, None),
            alone_copy=None if alone is None else alone.copy,
            crf=self.crf,
        )

    def _emissions(self, text: Text, prefixes: Sequence[Tensor] | None) -> Tensor:
        hidden = self.layers(self.project_text(text.tokens), additive_mask(text.mask), prefixes)  # B×L×W
        emissions: Tensor = self.emit(self.dropout(hidden))
        return emissions.float()

    def boxes(self, batch: int, given: Tensor | None) -> Tensor | None:
        """B×R×4: a detector's, or the fixed grid; None where the whole image alone is read."""
        if not self.regions:
            return None
        grid: Tensor = self.grid  # type: ignore[assignment]
        return grid.expand(batch, -1, -1) if given is None else given


class MvlaWithEncoders(nn.Module):
    """MVLA behind encoders of its own. embeddings: BERT's, whose layers the head holds.

    forward: image uint8 B×H×W×3; text and alone are (input_ids, attention_mask, copy), int64 B×L each; boxes float
    B×R×4. With `crops` every region is encoded as an image of its own, as in the paper: R + 1 times the work.
    """

    def __init__(self, image: nn.Module, embeddings: nn.Module, head: Mvla, *, crops: bool = False) -> None:
        super().__init__()
        self.image = image
        self.embeddings = embeddings
        self.head = head
        self.crops = crops

    def forward(
        self,
        image: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        copy: Tensor,
        alone: tuple[Tensor, Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
    ) -> Output:
        regions = self.head.boxes(image.shape[0], boxes) if self.crops else None
        output: Output = self.head(
            self.image(image),
            self._text(input_ids, attention_mask, copy),
            None if alone is None else self._text(*alone),
            boxes,
            None if regions is None else self.image(crop_regions(image, regions)),
        )
        return output

    def _text(self, ids: Tensor, mask: Tensor, copy: Tensor) -> Text:
        return Text(self.embeddings(input_ids=ids), mask, copy)


class _Levels(nn.Module):
    """(5)–(6): maps and boxes B×R×4 → B×P×e×D: each level's mean over the whole image, then over each region."""

    def __init__(self, channels: Sequence[int], dim: int, *, normalise: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(c, affine=False) if normalise else nn.Identity() for c in channels
        )  # fmt: skip
        self.project = nn.ModuleList(nn.Sequential(xavier_linear(c, dim), nn.LayerNorm(dim)) for c in channels)

    def forward(self, maps: Sequence[Tensor], boxes: Tensor | None, crops: Sequence[Tensor] | None = None) -> Tensor:
        levels = []
        for n, (norm, project) in enumerate(zip(self.norms, self.project, strict=True)):
            features = norm(maps[n])
            pooled = [features.mean((2, 3))[:, None]]  # B×1×C
            if crops is not None:
                pooled.append(norm(crops[n]).mean((2, 3)).unflatten(0, (features.shape[0], -1)))  # B×R×C
            elif boxes is not None:
                pooled.append(pool_regions(features, boxes))
            levels.append(project(torch.cat(pooled, dim=1)))
        return torch.stack(levels, dim=2)


class _LayerPrefix(nn.Module):
    """(9)–(11) for one BERT layer: B×P×e×D → its prefix B×P×2W, keys then values."""

    def __init__(self, dim: int, width: int, levels: int) -> None:
        super().__init__()
        hidden = max(dim // 8, 1)
        # One level needs no weights.
        self.weigh = (
            nn.Sequential(xavier_linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))
            if levels > 1
            else None
        )
        self.project = xavier_linear(dim, 2 * width)

    def forward(self, levels: Tensor) -> Tensor:
        if self.weigh is None:
            mixed = levels.squeeze(2)
        else:
            beta = torch.softmax(self.weigh(levels), dim=2)  # (9) B×P×e×1
            mixed = (beta * levels).sum(2)  # (10) B×P×D
        prefix: Tensor = self.project(mixed)  # (11)
        return prefix


def one_span_scores(crf: LinearChainCrf, emissions: Tensor, copy: Tensor) -> Tensor:
    """Scores of the copy read as one span of each polarity: emissions B×L×K, copy B×L → B×3.

    A closed form of the chain's score, so that a graph can hold it.
    """
    marked = copy.to(emissions.dtype)
    first = marked * (marked.cumsum(1) == 1)  # B×L
    inner = marked - first
    count = marked.sum(1)  # B
    begin, inside = slice(1, None, 2), slice(2, None, 2)  # columns of B-… and I-…
    at_first = (emissions[:, :, begin] * first[:, :, None]).sum(1)
    at_inner = (emissions[:, :, inside] * inner[:, :, None]).sum(1)
    several = (count > 1).to(emissions.dtype)[:, None]  # B×1
    into = crf.transitions.diagonal(offset=1)[begin]  # B-x → I-x
    along = crf.transitions.diagonal()[inside]
    steps = several * (into + (count[:, None] - 2.0) * along + crf.end[inside]) + (1.0 - several) * crf.end[begin]
    return crf.start[begin] + at_first + at_inner + steps


def one_span(polarity: Tensor, copy: Tensor) -> Tensor:
    """Labels B×N of a copy that is one span: polarity int64 B (`POLARITIES`, −1 missing), copy B×L."""
    count = copy.long().sum(1, keepdim=True)
    place = torch.arange(max(int(count.max()), 1), device=copy.device)[None]
    begin = (1 + 2 * polarity)[:, None]
    labels = torch.where(place == 0, begin, begin + 1)
    return torch.where((place < count) & (polarity >= 0)[:, None], labels, -1)


def loss(output: Output, targets: Targets, *, weights: Weights = PAPER_WEIGHTS) -> dict[str, Tensor]:
    """(15) by term, and the weighted sum as `total`. Needs an output whose S pass ran. Terms without labels are left
    out; `visual` (the label loss on S+N) is always told and counts by its weight."""
    if output.alone is None or output.alone_copy is None:
        raise ValueError("MVLA's loss needs both passes: give the model `alone`, the copy without visual context")
    with_image, mask = gather_marked(output.emissions, output.copy)
    text, text_mask = gather_marked(output.alone, output.alone_copy)
    if mask.shape != text_mask.shape or not bool((mask == text_mask).all()):
        raise ValueError("S and S+N must hold the same tokens of the copy; encode both with the same fields and room")
    labels = targets.labels[:, : mask.shape[1]]
    known = labels[:, 0] >= 0
    scale = mask.sum(1).float() if weights.per_token else torch.ones(len(mask), device=mask.device)

    def labelled(emissions: Tensor) -> Tensor:
        each = -output.crf.log_likelihood(emissions, labels, mask) / scale
        return (each * known).sum() / known.sum().clamp(min=1)

    log_p = output.crf.log_marginals(with_image, mask)
    kl = marginal_kl(log_p, output.crf.log_marginals(text, mask).detach(), mask) / scale
    terms = {"text": labelled(text), "kl": kl.mean(), "visual": labelled(with_image)}
    total = weights.text * terms["text"] + weights.kl * terms["kl"] + weights.visual_label * terms["visual"]
    if targets.anps is not None and output.anp_logits is not None:
        terms["anp"] = top_cross_entropy(output.anp_logits, targets.anps, top=weights.top)
        total = total + weights.anp * terms["anp"]
    return {"total": total, **terms}
