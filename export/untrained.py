"""Models with random weights, as checkpoints: to build engines of every size before anything is trained.

`paper:NAME` is the paper's size with encoders of its own; `small:NAME` the small head on the shared encoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from admodels.build import build, encoder_uses, paper_spec, small_spec
from admodels.checkpoint import Checkpoint
from admodels.contract.bundle import load_bundle
from admodels.contract.manifest import TextSpec
from admodels.contract.preprocess import model_input
from admodels.contract.spec import TASKS, Architecture, ModelSpec, Served
from admodels.contract.text import TextEncoder, copy_mask, pad
from admodels.papers.adfusion import CLASSES
from export.encoders import IMAGE_SIZE, SAMPLE_COPY

CREATIVES = 6
PHOTOGRAPHS = Path(__file__).resolve().parent.parent / "data" / "osie" / "images"
WORD_ROWS, ROWS_PER_WORD = 2_000, 12
"""The small DeepM2AD's word table, and the rows of its longest word."""


def untrained(source: str, models: Path) -> Checkpoint | None:
    """The checkpoint that `paper:NAME` or `small:NAME` stands for; None for any other source.

    models: the folder with the encoder bundles. Raises ValueError for a name that no paper has, BundleError.
    """
    size, _, name = source.partition(":")
    if size not in ("paper", "small") or not name:
        return None
    if name not in TASKS:
        raise ValueError(f"{source}: no model named {name!r}; there are {', '.join(TASKS)}")
    spec = spec_of(size, name, models)
    torch.manual_seed(0)
    return Checkpoint(
        spec=spec,
        state=build(spec).state_dict(),
        served=Served(),
        metrics={},
        training={"data": "none: random weights", "seed": 0},
        recorded=recorded(spec, models),
    )


def spec_of(size: str, name: Architecture, models: Path) -> ModelSpec:
    """The paper's or the small size, with labels for every head."""
    labels: Mapping[str, tuple[str, ...]] | None = None
    if name == "adfusion":
        labels = dict.fromkeys(CLASSES, ("a", "b", "c")) | {"keywords": tuple("abcdefgh")}
    elif name == "mvla":
        labels = {"sentiment": ("negative", "neutral", "positive"), "anps": tuple(f"pair_{n}" for n in range(20))}
    elif name == "deepm2ad":
        labels = {
            "topics": tuple(f"topic_{n}" for n in range(38)),
            "emotions": tuple(f"emotion_{n}" for n in range(30)),
        }
    if size == "paper":
        return paper_spec(name, labels=labels)
    image, text = (load_bundle(models / encoder / "1") for encoder in ("mobilenetv2", "minilm"))
    uses = encoder_uses(name, ("mobilenetv2", "1", image.digest), ("minilm", "1", text.digest))
    options = {"subwords": WORD_ROWS} if name == "deepm2ad" else None
    return small_spec(name, encoders=uses, labels=labels, options=options)


def recorded(spec: ModelSpec, models: Path) -> dict[str, NDArray[Any]]:
    """Some creatives as the model reads them: photographs of the repository (noise without it) and sample copy."""
    side = IMAGE_SIZE if spec.image_encoder is None else spec.image_encoder.size
    arrays: dict[str, NDArray[Any]] = {"image": _pictures(side)}
    text = spec.text or TextSpec(fields=("headline", "body", "cta", "brand", "ocr"), max_tokens=64)
    encoder = TextEncoder(load_bundle(models / "minilm" / "1").files["tokenizer.json"], text)
    marked = [encoder.encode_marked(copy) for copy in SAMPLE_COPY[:CREATIVES]]
    arrays["input_ids"], arrays["attention_mask"] = pad(
        [ids for ids, _ in marked], text.pad_to_multiple, text.max_tokens
    )
    arrays["copy_mask"] = np.zeros_like(arrays["attention_mask"])
    for row, (_, pieces) in enumerate(marked):
        arrays["copy_mask"][row, : len(pieces)] = copy_mask(pieces)
    if spec.architecture == "deepm2ad":
        arrays |= _words(spec)
    return arrays


def _pictures(side: int) -> NDArray[np.uint8]:
    paths = sorted(PHOTOGRAPHS.glob("*.webp"))[:CREATIVES]
    if len(paths) < CREATIVES:
        coarse = np.random.default_rng(0).integers(0, 256, (CREATIVES, 8, 8, 3), dtype=np.uint8)
        blocks = [np.asarray(Image.fromarray(one).resize((side, side))) for one in coarse]
        return np.stack(blocks)
    pictures = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(model_input(image, side, side))
    return np.stack(pictures)


def _words(spec: ModelSpec) -> dict[str, NDArray[Any]]:
    """Rows of a word table, or vectors where the model has none, for texts of 1 to 16 words."""
    generator = np.random.default_rng(0)
    counts = np.array([16, 1, 5, 9, 2, 12])[:CREATIVES, None]
    mask = (np.arange(16)[None] < counts).astype(np.int64)
    rows = spec.options.get("subwords")
    if rows is None:
        width = int(str(spec.options.get("word_dim", 300)))
        words: NDArray[Any] = (generator.normal(size=(CREATIVES, 16, width)) * mask[:, :, None]).astype(np.float32)
    else:
        words = generator.integers(1, int(str(rows)), (CREATIVES, 16, ROWS_PER_WORD)) * mask[:, :, None]
    return {"words": words, "word_mask": mask}
