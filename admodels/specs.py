"""The specs of the papers' and the small sizes: which encoders, which maps, which options. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from admodels.contract.manifest import EncoderUse, TextSpec
from admodels.contract.spec import Architecture, ImageEncoderSpec, ModelSpec, TextEncoderSpec

SENTIMENT = ("negative", "neutral", "positive")

_SHARED_MAPS = {"c1": (16, 128), "c2": (24, 64), "c3": (32, 32), "c4": (96, 16), "c5": (320, 8)}
"""Channels and side of the shared image encoder's maps."""
_SHARED_TEXT_DIM = 384

_READS: dict[Architecture, tuple[str, ...]] = {
    "dbafn": ("c3", "c4", "c5"),
    "fgmfn": ("c1", "c2", "c3", "c4", "c5"),
    "mvla": ("c2", "c4", "c5"),
    "deepm2ad": ("c5",),
    "adfusion": ("c3", "c4", "c5"),
    "baseline": ("c3", "c4", "c5"),
}

_SMALL: dict[Architecture, dict[str, object]] = {
    "dbafn": {
        "text_hidden": 192, "channels": 128, "score_hidden": 64, "decoder_channels": 32, "heatmap_size": 64,
        "gate_rank": 16,
    },
    "fgmfn": {
        "dim": 128, "layers": 2, "heads": 4, "hidden": 256, "dropout": 0.2, "high_level": 5, "sentence": "mean",
    },
    "mvla": {"width": 128, "layers": 2, "heads": 4, "hidden": 256, "dim": 96, "dropout": 0.2},
    "deepm2ad": {"word_dim": 64, "dim": 128, "head_hidden": 64, "dropout": 0.2},
    "adfusion": {"dim": 96, "layers": 2, "heads": 4, "hidden": 192, "dropout": 0.2},
    "baseline": {"dim": 128, "dropout": 0.2},
}  # fmt: skip

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, with which timm's weights of the papers' networks were trained."""

_COPY = ("headline", "body", "cta", "brand")


def _timm(name: str, size: int, levels: tuple[int, ...]) -> ImageEncoderSpec:
    return ImageEncoderSpec(name=name, size=size, levels=levels, mean=_MEAN, std=_STD)


_PAPER_ENCODERS: dict[Architecture, tuple[ImageEncoderSpec, str | None]] = {
    "dbafn": (_timm("swin_tiny_patch4_window7_224", 384, (1, 2, 3)), "roberta-base"),
    "fgmfn": (_timm("resnet50", 224, (0, 1, 2, 3, 4)), "bert-base-uncased"),
    "mvla": (_timm("resnet152", 224, (1, 3, 4)), "bert-base-uncased"),
    "deepm2ad": (_timm("resnet152", 224, (4,)), None),
    "adfusion": (_timm("resnet18", 224, (2, 3, 4)), "distilbert-base-uncased"),
}
_PAPER_OPTIONS: dict[Architecture, dict[str, object]] = {"deepm2ad": {"object_dim": 2048}}
"""Where the page leaves the detector open, regions are a grid on ResNet-152's last map."""


def maps_read(architecture: Architecture) -> tuple[str, ...]:
    """Names of the shared image encoder's maps that the small head reads, finest first."""
    return _READS[architecture]


def encoder_uses(
    architecture: Architecture,
    image: tuple[str, str, str],
    text: tuple[str, str, str],
    *,
    maps: tuple[str, ...] | None = None,
) -> tuple[EncoderUse, ...]:
    """How the small head reads the shared encoders; image, text: (name, version, digest) of their bundles.

    maps: which of the image encoder's, finest first, where that isn't the architecture's own choice. DeepM2AD reads
    words by itself: it uses the image encoder alone.
    """
    names = {name: name for name in maps or _READS[architecture]}
    uses = (
        EncoderUse(name=image[0], version=image[1], digest=image[2], outputs=names),
        EncoderUse(name=text[0], version=text[1], digest=text[2], outputs={"tokens": "tokens"}),
    )
    return uses[:1] if architecture == "deepm2ad" else uses


def small_spec(
    architecture: Architecture,
    *,
    encoders: tuple[EncoderUse, ...],
    labels: Mapping[str, tuple[str, ...]] | None = None,
    options: Mapping[str, object] | None = None,
) -> ModelSpec:
    """The small size on the shared encoders: at most a million parameters, trained and served on a CPU.

    labels: class names by head; fgmfn's and mvla's default is negative, neutral, positive; adfusion gets one class head
    per entry, and `keywords` its vocabulary; mvla's `anps` and deepm2ad's `topics` and `emotions` give their sizes; a
    baseline names its heads in the options. options: what differs from the small size. Without encoders (deepm2ad)
    the model is over features.
    """
    small = dict(_SMALL[architecture])
    if encoders:
        maps = [_SHARED_MAPS[name] for name in encoders[0].outputs]
        small |= {
            "map_channels": [channels for channels, _ in maps],
            "map_sizes": [side for _, side in maps],
            "normalise_maps": True,
        }
    if architecture != "deepm2ad":
        small["text_dim"] = _SHARED_TEXT_DIM
    return _spec(architecture, {**small, **(options or {})}, labels, encoders=encoders)


def paper_spec(
    architecture: Architecture,
    *,
    labels: Mapping[str, tuple[str, ...]] | None = None,
    options: Mapping[str, object] | None = None,
    pretrained: bool = False,
) -> ModelSpec:
    """The paper's size with encoders of its own, with random weights or (`pretrained`) the hub's."""
    image, text = _PAPER_ENCODERS[architecture]
    seen: tuple[str, ...] = ("caption", "faces", "ocr") if architecture == "mvla" else ("ocr",)
    read = TextSpec.model_validate({"fields": (*_COPY, *seen), "max_tokens": 128 if architecture == "mvla" else 64})
    return _spec(
        architecture,
        {**_PAPER_OPTIONS.get(architecture, {}), **(options or {})},
        labels,
        image=image.model_copy(update={"pretrained": pretrained}),
        text=None if text is None else TextEncoderSpec(name=text, pretrained=pretrained),
        text_spec=None if text is None else read,
    )


def _spec(
    architecture: Architecture,
    options: Mapping[str, object],
    given_labels: Mapping[str, tuple[str, ...]] | None,
    *,
    encoders: tuple[EncoderUse, ...] = (),
    image: ImageEncoderSpec | None = None,
    text: TextEncoderSpec | None = None,
    text_spec: TextSpec | None = None,
) -> ModelSpec:
    labels = dict(given_labels or ({"sentiment": SENTIMENT} if architecture in ("fgmfn", "mvla") else {}))
    return ModelSpec.model_validate(
        {
            "architecture": architecture,
            "options": {**_counted(architecture, labels), **options},
            "labels": labels,
            "encoders": encoders,
            "image_encoder": image,
            "text_encoder": text,
            "text": text_spec,
        }
    )


def _counted(architecture: Architecture, labels: Mapping[str, tuple[str, ...]]) -> dict[str, object]:
    """The options that follow from the labels."""
    if architecture == "fgmfn":
        return {"classes": len(labels["sentiment"])}
    if architecture == "mvla":
        return {"anps": len(labels.get("anps", ()))}
    if architecture == "deepm2ad":
        names = (("topics", "topics"), ("sentiments", "emotions"))
        return {option: len(labels[label]) for option, label in names if label in labels}
    if architecture == "adfusion":
        classes = {name: len(names) for name, names in labels.items() if name != "keywords"}
        return {"classes": classes, "keywords": len(labels.get("keywords", ()))}
    return {}
