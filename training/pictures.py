"""Heatmaps as pictures: a row per photograph, beside it where people looked and where each model says they do.

For photographs of OSIE alone, whose licence (MIT) allows to show them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.baselines import Baseline
from training.datasets import osie
from training.datasets.sample import BadRows, DataError, Record, open_rgb
from training.datasets.splits import HELD_OUT
from training.predictor import Predictor
from training.saliency import density, resize

WIDTH, HEIGHT = 160, 120
_QUALITY = 80


def strip(
    predictors: Sequence[Predictor | Baseline], root: Path, titles: Sequence[str], out: Path, names: Sequence[str] = ()
) -> tuple[int, int]:  # fmt: skip
    """Write a JPEG of photograph, fixations and one heatmap per predictor (titled so) for the validation photographs
    called `names` (all of them by default). Returns its (columns, rows). Raises DataError for a name that isn't there.
    """
    records = {r.id: r for r in osie.records(root, BadRows()) if r.extra.get(HELD_OUT)}
    unknown = [name for name in names if name not in records]
    if unknown:
        raise DataError(f"{root} has no validation photograph {unknown[0]!r}; validation.txt lists them")
    chosen = [records[name] for name in names or records]
    columns = len(predictors) + 2
    sheet = Image.new("RGB", (columns * WIDTH, len(chosen) * HEIGHT), "white")
    for row, record in enumerate(chosen):
        for column, tile in enumerate(_tiles(record, predictors)):
            sheet.paste(tile, (column * WIDTH, row * HEIGHT))
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(("photograph", "fixations", *titles)):
        pen.text((column * WIDTH + 4, 3), title, fill="white", stroke_width=2, stroke_fill="black")
    sheet.save(out, quality=_QUALITY)
    return columns, len(chosen)


def _tiles(record: Record, predictors: Sequence[Predictor | Baseline]) -> list[Image.Image]:
    assert record.picture is not None
    photograph = open_rgb(record.picture).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    maps = [density(record.extra["fixations"], HEIGHT, WIDTH, WIDTH / HEIGHT)]
    for predictor in predictors:
        heat = predictor.predict([predictor.sample(record)])["heatmap"][0]
        maps.append(resize(heat.astype(np.float32), HEIGHT, WIDTH))
    return [photograph, *(_over(photograph, heat) for heat in maps)]


def _over(photograph: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """The photograph in grey, reddened by a heatmap's share of its maximum."""
    share = (heat / max(float(heat.max()), 1e-12))[:, :, None]
    grey = np.asarray(photograph.convert("L"), np.float32)[:, :, None].repeat(3, 2) * 0.6
    mixed = grey * (1 - share) + np.array([255, 64, 0], np.float32) * share
    return Image.fromarray(mixed.astype(np.uint8))
