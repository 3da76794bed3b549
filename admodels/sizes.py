"""Parameters and GFLOPs of every model at the paper's and the small size: `python -m admodels.sizes [FILE]`.

Counted on torch's meta device, so that nothing is initialised or computed: one multiply-add is two operations, by
torch's own counter (matrix products, convolutions, attention, the products inside LSTMs; not norms and activations).
Printed as the Markdown page docs/models/sizes.md, or written to FILE.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from admodels.build import build
from admodels.contract.spec import Architecture, ModelSpec
from admodels.papers.mvla import Text
from admodels.specs import encoder_uses, paper_spec, small_spec

_LABELS = {
    "adfusion": {
        "theme": 20, "sentiment": 3, "emotion": 12, "audience": 6, "call_to_action": 6, "monetary_mention": 4,
        "object": 20, "dominant_colour": 11, "trust": 3, "keywords": 200,
    },
}  # fmt: skip
"""Sizes of the label sets, for the counts alone."""

_HEAD = """\
# Sizes

Written by `python -m admodels.sizes docs/models/sizes.md`. GFLOPs are of one creative, a multiply-add counted as two.
At the paper's size a model has encoders of its own; at the small size it reads the shared ones, which are not counted
with it (MobileNetV2 and MiniLM, run once for all heads).

| model | paper: parameters | of them beside the encoders | paper: GFLOPs | small: parameters | small: GFLOPs |
|---|---|---|---|---|---|"""
_FOOT = """
`mvla` counts BERT's layers beside the encoders, since the prefix lives in them. `adfusion` has class heads of, in
order, {counts} labels; `baseline` is MLP fusion with one head of three.
FGMFN's paper tells 130 M parameters and 3.00 GFLOPs, which can't include its BERT-base; AdFusion's draft tells 45 M,
less than its two encoders hold.
"""


class Size(NamedTuple):
    """parameters: all of them; head: without the encoders. gflops: of one creative's inference, encoders included where
    the model has its own."""

    parameters: int
    head: int
    gflops: float


def paper_size(architecture: Architecture) -> Size:
    """At the paper's size: one image, 64 tokens or words; MVLA reads 128 tokens (copy and visual context)."""
    with torch.device("meta"):
        model = build(paper_spec(architecture, labels=_labels(architecture))).eval()
        side = 384 if architecture == "dbafn" else 224
        image = torch.zeros(1, side, side, 3, dtype=torch.uint8)
        ids, mask = _ones(128 if architecture == "mvla" else 64)
        words = torch.zeros(1, 64, 300)
        inputs = {"mvla": (image, ids, mask, mask), "deepm2ad": (image, words, mask)}
        return _size(model, *inputs.get(architecture, (image, ids, mask)))


def small_size(architecture: Architecture) -> Size:
    """At the small size on the shared encoders' features, whose own cost is not counted."""
    uses = encoder_uses(architecture, ("image", "1", ""), ("text", "1", ""))
    options = {"form": "mlp", "classes": {"sentiment": 3}} if architecture == "baseline" else {}
    spec = small_spec(architecture, encoders=uses, labels=_labels(architecture), options=options)
    with torch.device("meta"):
        model = build(spec).eval()
        _, mask = _ones(64)
        tokens = torch.zeros(1, 64, 64 if architecture == "deepm2ad" else 384)
        text = (Text(tokens, mask, mask),) if architecture == "mvla" else (tokens, mask)
        return _size(model, _maps(spec), *text)


def page() -> str:
    """The Markdown page."""
    lines = [_HEAD]
    for architecture in get_args(Architecture):
        small = small_size(architecture)
        row = [f"`{architecture}`", "–", "–", "–", f"{small.parameters / 1e3:.0f} k", f"{small.gflops:.3f}"]
        if architecture != "baseline":
            paper = paper_size(architecture)
            row[1:4] = [f"{paper.parameters / 1e6:.1f} M", f"{paper.head / 1e6:.1f} M", f"{paper.gflops:.1f}"]
        lines.append(f"| {' | '.join(row)} |")
    counts = ", ".join(str(count) for count in _LABELS["adfusion"].values())
    return "\n".join([*lines, _FOOT.format(counts=counts)])


def _size(model: nn.Module, *inputs: Any) -> Size:
    parameters = sum(p.numel() for p in model.parameters())
    parts = [getattr(model, name, None) for name in ("image", "text", "embeddings")]
    encoders = sum(p.numel() for part in parts if isinstance(part, nn.Module) for p in part.parameters())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return Size(parameters, parameters - encoders, counter.get_total_flops() / 1e9)


def _labels(architecture: Architecture) -> dict[str, tuple[str, ...]] | None:
    counts = _LABELS.get(architecture)
    return None if counts is None else {name: tuple(f"{n}" for n in range(count)) for name, count in counts.items()}


def _maps(spec: ModelSpec) -> list[torch.Tensor]:
    channels: Any = spec.options["map_channels"]
    sides: Any = spec.options["map_sizes"]
    return [torch.zeros(1, c, s, s) for c, s in zip(channels, sides, strict=True)]


def _ones(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.ones(1, length, dtype=torch.long)
    return mask * 5, mask


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())
