"""A picture and where people looked at it → a record."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.datasets.sample import Label, Record
from training.saliency import density

SALIENCY_SIDE = 64


def viewed(row: int, picture: Path, points: NDArray[np.float32], width: int, height: int) -> Record:
    """points: N×2 (x, y) in pixels of the picture, which is width×height. The label is `saliency`, the density."""
    seen = (points.reshape(-1, 2) / (width, height)).astype(np.float32)
    labels: dict[str, Label] = {"saliency": density(seen, SALIENCY_SIDE, SALIENCY_SIDE, width / height)}
    extra = {"fixations": seen, "name": picture.stem, "aspect": width / height}
    return Record(row, picture.stem, picture, {}, labels, (f"picture:{picture.stem}",), extra)


def mirrored(record: Record) -> Record:
    """The same picture seen in a mirror, with the same groups."""
    seen = record.extra["fixations"]
    flipped = np.stack([1 - seen[:, 0], seen[:, 1]], 1)
    heat = density(flipped, SALIENCY_SIDE, SALIENCY_SIDE, record.extra["aspect"])
    return dataclasses.replace(
        record,
        id=f"{record.id}-flipped",
        labels={**record.labels, "saliency": heat},
        extra={**record.extra, "fixations": flipped},
        mirrored=not record.mirrored,
    )
