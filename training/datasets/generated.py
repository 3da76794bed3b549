"""Generated creatives as rows: pictures, words with their entities, every label of labels.py's columns.

What is written on a creative reaches a model as copy, as OCR text or as both. Here six rows in ten have the copy
alone, two the OCR text alone and two both; the OCR text is the rendered words with an OCR's usual slips, no real OCR
run (which would cost ten times the rest).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from admodels.contract import preprocess
from training import saliency, synthetic
from training.creatives.values import Labels
from training.creatives.vocabulary import label_sets
from training.datasets.osie import SALIENCY_SIDE, Split, fixations, photographs
from training.datasets.sample import Label, Sample

View = Literal["plain", "enhanced", "degraded"]
_SPLIT_SEEDS = {"train": 0, "tune": 1, "validation": 2}
_CONFUSED = str.maketrans({"l": "1", "O": "0", "I": "l", "S": "5", "e": "c"})


def samples(root: Path, split: Split, count: int, seed: int, side: int, view: View = "plain") -> Iterator[Sample]:
    """`count` creatives on the photographs of one split of `root` (the layout of data/osie).

    Splits share neither photograph nor seed. `enhanced` and `degraded` are the same creatives with other pixels.
    """
    photos = photographs(root, split)
    points = fixations(root)
    own_seed = 3 * seed + _SPLIT_SEEDS[split]
    for creative in synthetic.creatives(photos, count, own_seed):
        yield _sample(creative, points, side, own_seed, view)


def _sample(
    creative: synthetic.GeneratedCreative, points: dict[str, NDArray[np.float32]], side: int, seed: int, view: View
) -> Sample:
    image = creative.image() if view == "plain" else synthetic.variants(creative, seed)[view == "degraded"]
    name = creative.placement.name
    seen = points.get(name, np.zeros((0, 2), np.float32)) / (400, 300)
    heat = saliency.creative_density(
        seen, creative.placement, creative.regions, SALIENCY_SIDE, creative.size[0] / creative.size[1]
    )
    rng = np.random.default_rng(np.random.SeedSequence([seed, int(creative.id.rsplit("-", 1)[1]), 3]))
    return Sample(
        creative.id,
        preprocess.stretch(image, side, side),
        _fields(creative, rng),
        _labels(creative.labels) | {"saliency": heat},
        spans=creative.labels.spans,
        extra={"name": name},
    )


def _fields(creative: synthetic.GeneratedCreative, rng: np.random.Generator) -> dict[str, str]:
    copy = creative.copy.fields()
    kind = rng.random()
    if kind < 0.6:
        return copy
    read = {"ocr": _as_read(" ".join(copy.values()), rng)}
    return read if kind < 0.8 else copy | read


def _as_read(text: str, rng: np.random.Generator) -> str:
    """The words as an OCR engine might give them: one in twelve lost, one in twelve with a confused letter."""
    words = []
    for word in text.split():
        slip = rng.random()
        if slip > 1 / 12:
            words.append(word.translate(_CONFUSED) if slip < 2 / 12 else word)
    return " ".join(words)


def _labels(labels: Labels) -> dict[str, Label]:
    sets = label_sets()
    response = labels.response
    known: dict[str, Label] = {head: sets[head].index(name) for head, name in labels.classes.items()}
    known["keywords"] = np.array([name in labels.keywords for name in sets["keywords"]], np.float32)
    known |= {"score": labels.attractiveness, "ctr": response.clicks / response.impressions}
    known |= {"impressions": float(response.impressions), "clicks": float(response.clicks)}
    return known | {"share_likelihood": response.share_likelihood, "attention": response.attention}
