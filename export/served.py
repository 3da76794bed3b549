"""A model with the inputs of its graph: tensors by name in, a tuple of the served outputs out.

B batch, L tokens, W words, G rows of one word, C channels, E token width.

A head on shared encoders reads their outputs: `c1` … `c5` (float B×C×h×w, those that it lists), `tokens` (float
B×L×E), `attention_mask` (int64 B×L). A model with encoders of its own reads `image` (uint8 B×H×W×3), `input_ids` and
`attention_mask` (int64 B×L). MVLA also reads `copy_mask` (int64 B×L, 1 at the copy's tokens); DeepM2AD reads, in place
of tokens, `words` (its table's rows, int64 B×W×G, or vectors, float B×W×F) and `word_mask` (int64 B×W). Where it was
trained without pixels, on a shared text encoder's tokens, it reads these alone: nothing detects objects when it serves.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from admodels.build import build
from admodels.contract.spec import ModelSpec
from admodels.papers.mvla import Text

MAPS = ("c1", "c2", "c3", "c4", "c5")
DYNAMIC: dict[str, dict[int, str]] = {
    **{name: {0: "batch"} for name in ("image", *MAPS)},
    **{name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask", "copy_mask", "tokens")},
    "words": {0: "batch", 1: "words", 2: "rows"},
    "word_mask": {0: "batch", 1: "words"},
}
"""Per input which axis carries which symbol."""


class ServedModel(nn.Module):
    """One class for every form: `inputs_of` says which of the arguments a model's graph has."""

    def __init__(self, spec: ModelSpec, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.architecture = spec.architecture
        self.own_image = spec.image_encoder is not None
        self.own_text = spec.text_encoder is not None

    def forward(
        self,
        image: Tensor | None = None,
        input_ids: Tensor | None = None,
        tokens: Tensor | None = None,
        attention_mask: Tensor | None = None,
        copy_mask: Tensor | None = None,
        words: Tensor | None = None,
        word_mask: Tensor | None = None,
        c1: Tensor | None = None,
        c2: Tensor | None = None,
        c3: Tensor | None = None,
        c4: Tensor | None = None,
        c5: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        maps: Any = image if self.own_image else [m for m in (c1, c2, c3, c4, c5) if m is not None]
        text = input_ids if self.own_text else tokens
        if self.architecture == "deepm2ad" and tokens is not None:
            output = self.model(None, None, None, tokens, attention_mask)
        elif self.architecture == "deepm2ad":
            output = self.model(maps, words, word_mask)
        elif self.architecture == "mvla" and self.own_text:
            output = self.model(maps, text, attention_mask, copy_mask)
        elif self.architecture == "mvla":
            output = self.model(maps, Text(text, attention_mask, copy_mask))  # type: ignore[arg-type]
        else:
            output = self.model(maps, text, attention_mask)
        self.outputs: tuple[str, ...] = tuple(output.served())
        return tuple(output.served().values())


def served(spec: ModelSpec, model: nn.Module | None = None) -> ServedModel:
    """The model ready for its graph; without one, with random weights. Raises ValueError, WeightsUnavailableError."""
    return ServedModel(spec, build(spec) if model is None else model).eval()


def inputs_of(spec: ModelSpec) -> tuple[str, ...]:
    """Names of the graph's inputs, in order."""
    maps = ("image",) if spec.image_encoder else tuple(spec.encoders[0].outputs.values())
    if spec.architecture == "deepm2ad" and maps == ("tokens",):
        return ("tokens", "attention_mask")
    if spec.architecture == "deepm2ad":
        return (*maps, "words", "word_mask")
    text = ("input_ids" if spec.text_encoder else "tokens", "attention_mask")
    return (*maps, *text, "copy_mask") if spec.architecture == "mvla" else (*maps, *text)
