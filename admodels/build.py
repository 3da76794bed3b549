"""From a spec to a module: a literal table of builders, and the specs of the papers' and the small sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from admodels.backbones import ImageEncoder, TextEncoder, image_encoder, text_encoder
from admodels.contract.manifest import EncoderUse, TextSpec
from admodels.contract.spec import Architecture, ImageEncoderSpec, ModelSpec, TextEncoderSpec
from admodels.papers.adfusion import Adfusion
from admodels.papers.dbafn import Dbafn
from admodels.papers.fgmfn import Fgmfn

BUILDERS: dict[Architecture, type[Dbafn] | type[Fgmfn] | type[Adfusion]] = {
    "dbafn": Dbafn,
    "fgmfn": Fgmfn,
    "adfusion": Adfusion,
}

SENTIMENT = ("negative", "neutral", "positive")

_SHARED_MAPS = {"c1": (16, 128), "c2": (24, 64), "c3": (32, 32), "c4": (96, 16), "c5": (320, 8)}
"""Channels and side of the shared image encoder's maps."""
_SHARED_TEXT_DIM = 384

_READS: dict[Architecture, tuple[str, ...]] = {
    "dbafn": ("c3", "c4", "c5"),
    "fgmfn": ("c1", "c2", "c3", "c4", "c5"),
    "adfusion": ("c3", "c4", "c5"),
}

_SMALL: dict[Architecture, dict[str, object]] = {
    "dbafn": {
        "text_hidden": 192, "channels": 128, "score_hidden": 64, "decoder_channels": 32, "heatmap_size": 64,
        "gate_rank": 16,
    },
    "fgmfn": {
        "dim": 128, "layers": 2, "heads": 4, "hidden": 256, "dropout": 0.2, "high_level": 5, "sentence": "mean",
    },
    "adfusion": {"dim": 96, "layers": 2, "heads": 4, "hidden": 192, "dropout": 0.2},
}  # fmt: skip

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, with which timm's weights of the papers' networks were trained."""

_PAPER_ENCODERS: dict[Architecture, tuple[ImageEncoderSpec, str]] = {
    "dbafn": (
        ImageEncoderSpec(name="swin_tiny_patch4_window7_224", size=384, levels=(1, 2, 3), mean=_MEAN, std=_STD),
        "roberta-base",
    ),
    "fgmfn": (
        ImageEncoderSpec(name="resnet50", size=224, levels=(0, 1, 2, 3, 4), mean=_MEAN, std=_STD),
        "bert-base-uncased",
    ),
    "adfusion": (
        ImageEncoderSpec(name="resnet18", size=224, levels=(2, 3, 4), mean=_MEAN, std=_STD),
        "distilbert-base-uncased",
    ),
}


class _Head(Protocol):
    def __call__(self, maps: Sequence[Tensor], tokens: Tensor, mask: Tensor) -> NamedTuple: ...


class WithEncoders(nn.Module):
    """A head behind encoders of its own: image uint8 B×H×W×3, input_ids and attention_mask int64 B×L → its output."""

    def __init__(self, image: ImageEncoder, text: TextEncoder, head: nn.Module) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.head = head

    def forward(self, image: Tensor, input_ids: Tensor, attention_mask: Tensor) -> NamedTuple:
        head: _Head = self.head
        return head(self.image(image), self.text(input_ids, attention_mask), attention_mask)


def build(spec: ModelSpec) -> nn.Module:
    """The module that `spec` describes, with random weights unless its encoders name theirs.

    With shared encoders it is the head: `model(maps, tokens, mask)`; with its own, `WithEncoders`.
    Raises ValueError for options that the architecture doesn't take, WeightsUnavailableError as the encoders do.
    """
    if spec.image_encoder is None or spec.text_encoder is None:
        return _head(spec, spec.options)
    own = spec.image_encoder
    image = image_encoder(
        own.name,
        size=own.size,
        levels=own.levels,
        mean=own.mean,
        std=own.std,
        weights=None if own.weights is None else Path(own.weights),
        pretrained=own.pretrained,
    )
    folder = spec.text_encoder.folder
    text = text_encoder(
        spec.text_encoder.name if folder is None else Path(folder), pretrained=spec.text_encoder.pretrained
    )
    sizes = {"map_channels": image.channels, "map_sizes": image.sizes, "text_dim": text.width}
    return WithEncoders(image, text, _head(spec, {**spec.options, **sizes}))


def _head(spec: ModelSpec, options: Mapping[str, object]) -> nn.Module:
    try:
        return BUILDERS[spec.architecture](**options)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(f"{spec.architecture} can't be built from the spec's options: {error}") from error


def maps_read(architecture: Architecture) -> tuple[str, ...]:
    """Names of the shared image encoder's maps that the small head reads, finest first."""
    return _READS[architecture]


def encoder_uses(
    architecture: Architecture, image: tuple[str, str, str], text: tuple[str, str, str]
) -> tuple[EncoderUse, EncoderUse]:
    """How the small head reads the shared encoders; image, text: (name, version, digest) of their bundles."""
    maps = {name: name for name in _READS[architecture]}
    return (
        EncoderUse(name=image[0], version=image[1], digest=image[2], outputs=maps),
        EncoderUse(name=text[0], version=text[1], digest=text[2], outputs={"tokens": "tokens"}),
    )


def small_spec(
    architecture: Architecture,
    *,
    encoders: tuple[EncoderUse, ...],
    labels: Mapping[str, tuple[str, ...]] | None = None,
    options: Mapping[str, object] | None = None,
) -> ModelSpec:
    """The small size on the shared encoders: at most a million parameters, trained and served on a CPU.

    labels: class names by head; fgmfn's default is negative, neutral, positive; adfusion gets one class head per
    entry, and `keywords` its vocabulary. options: what differs from the small size.
    """
    labels = dict(labels or ({"sentiment": SENTIMENT} if architecture == "fgmfn" else {}))
    maps = [_SHARED_MAPS[name] for name in _READS[architecture]]
    sizes = {
        "map_channels": [channels for channels, _ in maps],
        "map_sizes": [side for _, side in maps],
        "text_dim": _SHARED_TEXT_DIM,
        "normalise_maps": True,
    }
    return _spec(architecture, {**sizes, **_SMALL[architecture], **(options or {})}, labels, encoders=encoders)


def paper_spec(
    architecture: Architecture,
    *,
    labels: Mapping[str, tuple[str, ...]] | None = None,
    options: Mapping[str, object] | None = None,
) -> ModelSpec:
    """The paper's size with encoders of its own, random weights."""
    labels = dict(labels or ({"sentiment": SENTIMENT} if architecture == "fgmfn" else {}))
    image, text = _PAPER_ENCODERS[architecture]
    spec = TextSpec(fields=("headline", "body", "cta", "brand", "ocr"), max_tokens=64)
    return _spec(architecture, options or {}, labels, image=image, text=TextEncoderSpec(name=text), text_spec=spec)


def _spec(
    architecture: Architecture,
    options: Mapping[str, object],
    labels: dict[str, tuple[str, ...]],
    *,
    encoders: tuple[EncoderUse, ...] = (),
    image: ImageEncoderSpec | None = None,
    text: TextEncoderSpec | None = None,
    text_spec: TextSpec | None = None,
) -> ModelSpec:
    counted: dict[str, object] = {}
    if architecture == "fgmfn":
        counted = {"classes": len(labels["sentiment"])}
    elif architecture == "adfusion":
        classes = {name: len(names) for name, names in labels.items() if name != "keywords"}
        counted = {"classes": classes, "keywords": len(labels.get("keywords", ()))}
    return ModelSpec.model_validate(
        {
            "architecture": architecture,
            "options": {**counted, **options},
            "labels": labels,
            "encoders": encoders,
            "image_encoder": image,
            "text_encoder": text,
            "text": text_spec,
        }
    )
