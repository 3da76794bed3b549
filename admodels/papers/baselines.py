"""What the papers compare with: one modality alone, and early, late and MLP fusion of the same encoders' features.

Shapes: B batch, L tokens, E text width, C channels, D width.

    image, text  one pooled vector, a hidden layer, the heads
    early        the pooled vectors side by side, the heads straight on them
    late         an image tower and a text tower with heads of their own, their answers averaged
    mlp          both pooled vectors projected, side by side, two hidden layers, the heads

A heatmap, where asked for, comes from the maps alone: one 1×1 convolution, softmax over the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from admodels.layers.initialised import he_conv, xavier_linear
from admodels.layers.multiscale import Concatenate, Resize
from admodels.losses import binary_cross_entropy, binary_cross_entropy_logits, cross_entropy, huber, saliency_kl
from admodels.masking import masked_mean

Form = Literal["image", "text", "early", "late", "mlp"]
KINDS = ("classes", "labels", "values")
FORMS = ("image", "text", "early", "late", "mlp")


class Output(NamedTuple):
    """classes: logits B×K of one choice; labels: logits B×K of independent ones; values: B in [0, 1]; heatmap B×H×H."""

    classes: dict[str, Tensor]
    labels: dict[str, Tensor]
    values: dict[str, Tensor]
    heatmap: Tensor | None = None

    def served(self) -> dict[str, Tensor]:
        """The outputs by the names that the papers' models give them."""
        outputs = {f"{name}_logits": logits for name, logits in {**self.classes, **self.labels}.items()} | self.values
        return outputs if self.heatmap is None else {**outputs, "heatmap": self.heatmap}


class Targets(NamedTuple):
    """classes: int64 B, −1 missing. labels: float B×K, values: float B, NaN missing. saliency: as DBAFN's."""

    classes: Mapping[str, Tensor] = {}
    labels: Mapping[str, Tensor] = {}
    values: Mapping[str, Tensor] = {}
    saliency: Tensor | None = None


class Weights(NamedTuple):
    """`saliency` as DBAFN's λ1. values: cross-entropy for rates, Huber (δ = 0.1) for scores."""

    saliency: float = 0.5
    smoothing: float = 0.0
    values: Literal["cross_entropy", "huber"] = "cross_entropy"
    class_weights: Tensor | None = None


PLAIN_WEIGHTS = Weights()


class Baseline(nn.Module):
    """One of `FORMS` over encoder features. map_channels, map_sizes, text_dim as the papers' models take them.

    classes, labels: heads with their number of classes; values: heads of one number. heatmap_size: 0 for none.
    forward: maps B×C×S×S each, tokens B×L×E, mask int64 B×L; what the form doesn't read may be None.
    """

    def __init__(
        self,
        *,
        form: Form,
        map_channels: Sequence[int],
        map_sizes: Sequence[int],
        text_dim: int,
        classes: Mapping[str, int] | None = None,
        labels: Mapping[str, int] | None = None,
        values: Sequence[str] = (),
        dim: int = 256,
        dropout: float = 0.1,
        heatmap_size: int = 0,
        normalise_maps: bool = False,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"no baseline of the form {form!r}; choose of {', '.join(FORMS)}")
        heads = {"classes": classes or {}, "labels": labels or {}, "values": dict.fromkeys(values, 1)}
        image, text = sum(map_channels), text_dim
        self.form, self.average = form, form == "late"
        self.norm_image = nn.BatchNorm1d(image, affine=False) if normalise_maps and form != "text" else nn.Identity()
        self.norm_text = nn.BatchNorm1d(text, affine=False) if normalise_maps and form != "image" else nn.Identity()
        widths = {"image": [image], "text": [text], "early": [image + text], "late": [image, text], "mlp": [2 * dim]}
        self.project = (
            nn.ModuleList(nn.Sequential(xavier_linear(width, dim), nn.ReLU()) for width in (image, text))
            if form == "mlp"
            else None
        )
        depth = {"early": 0, "mlp": 2}.get(form, 1)
        self.towers = nn.ModuleList(_Tower(width, dim, depth, dropout, heads) for width in widths[form])
        self.heatmap = (
            _Heatmap(map_channels, map_sizes, dim, heatmap_size, normalise=normalise_maps)
            if heatmap_size and form != "text"
            else None
        )

    def forward(self, maps: Sequence[Tensor] | None, tokens: Tensor | None, mask: Tensor | None) -> Output:
        vectors = []
        if self.form != "text":
            assert maps is not None
            vectors.append(self.norm_image(torch.cat([m.mean((2, 3)) for m in maps], dim=1)))  # B×ΣC
        if self.form != "image":
            assert tokens is not None
            assert mask is not None
            vectors.append(self.norm_text(masked_mean(tokens, mask)))  # B×E
        if self.project is not None:
            vectors = [project(vector) for project, vector in zip(self.project, vectors, strict=True)]
        if not self.average:
            vectors = [torch.cat(vectors, dim=1)]
        answers = [tower(vector) for tower, vector in zip(self.towers, vectors, strict=True)]
        heatmap = None if self.heatmap is None or maps is None else self.heatmap(maps)
        classes, labels, values = (_mean([answer[kind] for answer in answers]) for kind in KINDS)
        return Output(classes, labels, values, heatmap)


def _mean(answers: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([answer[name] for answer in answers]).mean(0) for name in answers[0]}


class _Tower(nn.Module):
    """Hidden layers and heads: B×width → by kind and name, logits B×K or values B."""

    def __init__(
        self, width: int, dim: int, depth: int, dropout: float, heads: Mapping[str, Mapping[str, int]]
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        for n in range(depth):
            layers += [xavier_linear(dim if n else width, dim), nn.ReLU(), nn.Dropout(dropout)]
        self.hidden = nn.Sequential(*layers)
        last = dim if depth else width
        classes, labels, values = (
            nn.ModuleDict({name: nn.Linear(last, count) for name, count in heads[kind].items()}) for kind in KINDS
        )
        self.classes, self.labels, self.numbers = classes, labels, values

    def forward(self, x: Tensor) -> dict[str, dict[str, Tensor]]:
        x = self.hidden(x)
        return {
            "classes": {name: head(x) for name, head in self.classes.items()},
            "labels": {name: head(x) for name, head in self.labels.items()},
            "values": {name: torch.sigmoid(head(x).squeeze(1)) for name, head in self.numbers.items()},
        }


class _Heatmap(nn.Module):
    """Maps → B×H×H, a distribution over the pixels, in fp32."""

    def __init__(self, channels: Sequence[int], sizes: Sequence[int], dim: int, size: int, *, normalise: bool) -> None:
        super().__init__()
        grid = sizes[len(sizes) // 2]
        self.concatenate = Concatenate(channels, sizes, grid, normalise=normalise)
        self.layers = nn.Sequential(
            he_conv(self.concatenate.channels, dim, 1), nn.ReLU(), nn.Conv2d(dim, 1, 1), Resize(grid, size)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        logits = self.layers(self.concatenate(maps)).squeeze(1).float()  # B×H×H
        return torch.softmax(logits.flatten(1), dim=1).unflatten(1, logits.shape[1:])


def loss(output: Output, targets: Targets, *, weights: Weights = PLAIN_WEIGHTS) -> dict[str, Tensor]:
    """Every head's loss by its name, and their sum as `total`; heads without targets are left out."""
    terms = {
        name: cross_entropy(output.classes[name], labels, smoothing=weights.smoothing, weight=weights.class_weights)
        for name, labels in targets.classes.items()
    }
    terms |= {name: binary_cross_entropy_logits(output.labels[name], wanted) for name, wanted in targets.labels.items()}
    for name, truth in targets.values.items():
        value = output.values[name]
        terms[name] = (
            huber(value, truth, delta=0.1) if weights.values == "huber" else binary_cross_entropy(value, truth)
        )
    total = sum(terms.values(), torch.zeros(()))
    if targets.saliency is not None and output.heatmap is not None:
        terms["saliency"] = saliency_kl(targets.saliency, output.heatmap)
        total = total + weights.saliency * terms["saliency"]
    if not terms:
        raise ValueError("no target fits a head of this baseline: name its classes, labels and values in the options")
    return {"total": total, **terms}
