"""From a spec to a module: a literal table of builders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from admodels.backbones import ImageEncoder, TextEncoder, bert_layers, image_encoder, text_encoder
from admodels.contract.spec import Architecture, ImageEncoderSpec, ModelSpec, TextEncoderSpec
from admodels.papers.adfusion import Adfusion
from admodels.papers.baselines import Baseline
from admodels.papers.dbafn import Dbafn
from admodels.papers.deepm2ad import DeepM2Ad, DeepM2AdOverMaps
from admodels.papers.fgmfn import Fgmfn
from admodels.papers.mvla import Mvla, MvlaWithEncoders
from admodels.specs import encoder_uses, maps_read, paper_spec, small_spec

__all__ = [
    "BUILDERS",
    "WithEncoders",
    "WithImageEncoder",
    "build",
    "encoder_uses",
    "maps_read",
    "paper_spec",
    "small_spec",
]


class _Head(Protocol):
    def __call__(self, maps: Sequence[Tensor], tokens: Tensor, mask: Tensor) -> NamedTuple: ...


class WithEncoders(nn.Module):
    """A head behind encoders of its own, one or both.

    forward: image uint8 B×H×W×3, or the maps where `image` is None; input_ids int64 B×L, or the tokens B×L×E where
    `text` is None; attention_mask int64 B×L → the head's output.
    """

    def __init__(self, image: ImageEncoder | None, text: TextEncoder | None, head: nn.Module) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.head = head

    def forward(self, image: Any, input_ids: Tensor, attention_mask: Tensor) -> NamedTuple:
        maps = image if self.image is None else self.image(image)
        tokens = input_ids if self.text is None else self.text(input_ids, attention_mask)
        head: _Head = self.head
        return head(maps, tokens, attention_mask)


class WithImageEncoder(nn.Module):
    """A head that reads words by itself (DeepM2AD) behind an image encoder of its own: image uint8 B×H×W×3, then what
    the head takes after its maps."""

    def __init__(self, image: ImageEncoder, head: nn.Module) -> None:
        super().__init__()
        self.image = image
        self.head = head

    def forward(self, image: Tensor, *rest: Tensor) -> NamedTuple:
        output: NamedTuple = self.head(self.image(image), *rest)
        return output


def _mvla(spec: ModelSpec, image: ImageEncoder | None, text: TextEncoder | None) -> nn.Module:
    """MVLA's prefix lives inside BERT's layers: those of its own text encoder, or a few over a shared one's tokens."""
    options: dict[str, Any] = {**spec.options}
    options.pop("map_sizes", None)  # its levels are means
    crops = bool(options.pop("crops", False))
    if text is None:
        sizes = {name: options.pop(name) for name in ("layers", "heads", "hidden") if name in options}
        layers = bert_layers(width=options["width"], dropout=options.get("dropout", 0.1), **sizes)
        return Mvla(layers, **options)
    own = {name: value for name, value in options.items() if name not in ("layers", "heads", "hidden")}
    if image is not None:
        own["map_channels"] = image.channels
    head = Mvla(text.layers, **{**own, "width": text.width, "text_dim": None})
    return MvlaWithEncoders(image or nn.Identity(), text.embeddings, head, crops=crops)


def _deepm2ad(spec: ModelSpec, image: ImageEncoder | None, _: TextEncoder | None) -> nn.Module:
    """Over an image encoder's maps where there is one, else over features (image vectors, objects, words)."""
    options: dict[str, Any] = {**spec.options}
    options.pop("map_sizes", None)
    normalise = bool(options.pop("normalise_maps", False))
    given = options.pop("map_channels", None)
    channels = image.channels if image is not None else given
    if channels is None:
        return DeepM2Ad(**options)
    last = channels[-1]
    options = {"image_dim": last, "object_dim": last, **options}
    head = DeepM2AdOverMaps(DeepM2Ad(**options), last, normalise_maps=normalise)
    return head if image is None else WithImageEncoder(image, head)


def _over_features(
    head: Callable[..., nn.Module],
) -> Callable[[ModelSpec, ImageEncoder | None, TextEncoder | None], nn.Module]:
    """The builder of a head that reads maps and tokens."""

    def make(spec: ModelSpec, image: ImageEncoder | None, text: TextEncoder | None) -> nn.Module:
        options: dict[str, Any] = {**spec.options}
        if image is not None:
            options |= {"map_channels": image.channels, "map_sizes": image.sizes}
        if text is not None:
            options |= {"text_dim": text.width}
        made = head(**options)
        return made if image is None and text is None else WithEncoders(image, text, made)

    return make


BUILDERS: dict[Architecture, Callable[[ModelSpec, ImageEncoder | None, TextEncoder | None], nn.Module]] = {
    "dbafn": _over_features(Dbafn),
    "fgmfn": _over_features(Fgmfn),
    "mvla": _mvla,
    "deepm2ad": _deepm2ad,
    "adfusion": _over_features(Adfusion),
    "baseline": _over_features(Baseline),
}


def build(spec: ModelSpec) -> nn.Module:
    """The module that `spec` describes, with random weights unless its encoders name theirs.

    What it takes: `model(maps, tokens, mask)` on shared encoders; `WithEncoders` with some of its own; `Mvla`,
    `MvlaWithEncoders`, `DeepM2Ad`, `DeepM2AdOverMaps` say theirs.
    Raises ValueError for options that the architecture doesn't take, WeightsUnavailableError as the encoders do.
    """
    try:
        return BUILDERS[spec.architecture](spec, _image(spec.image_encoder), _text(spec.text_encoder))
    except (TypeError, KeyError) as error:
        raise ValueError(f"{spec.architecture} can't be built from the spec's options: {error}") from error


def _image(spec: ImageEncoderSpec | None) -> ImageEncoder | None:
    if spec is None:
        return None
    weights = None if spec.weights is None else Path(spec.weights)
    return image_encoder(
        spec.name, size=spec.size, levels=spec.levels, mean=spec.mean, std=spec.std, weights=weights,
        pretrained=spec.pretrained,
    )  # fmt: skip


def _text(spec: TextEncoderSpec | None) -> TextEncoder | None:
    if spec is None:
        return None
    return text_encoder(spec.name if spec.folder is None else Path(spec.folder), pretrained=spec.pretrained)
