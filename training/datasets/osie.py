"""Photographs with fixations: the layout of data/osie and of ../shared/data/saliency_osie.

    images/*              the photographs
    fixations.csv.gz      image,x,y,… in pixels of the photograph
    validation.txt        file names of the photographs to validate on, one a line; without it about one in five

Of the other photographs every ninth is for tuning (early stopping, calibration).
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from admodels.contract import preprocess
from training.datasets import tables
from training.datasets.sample import BadRows, DataError, Record, Sample, open_rgb
from training.datasets.splits import HELD_OUT
from training.datasets.viewed import SALIENCY_SIDE, viewed
from training.saliency import density

Split = Literal["train", "tune", "validation"]
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def photographs(root: Path, split: Split | None = None) -> list[Path]:
    """The photographs of a split, sorted by name; all of them for None. Raises DataError where there are none."""
    found = sorted(path for path in (root / "images").glob("*") if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise DataError(f"{root}/images holds no photographs: --root names the folder that holds images/")
    if split is None:
        return found
    held_out = _held_out(root, found)
    rest = [path for path in found if path.name not in held_out]
    match split:
        case "validation":
            chosen = [path for path in found if path.name in held_out]
        case "tune":
            chosen = rest[::9]
        case "train":
            chosen = [path for index, path in enumerate(rest) if index % 9]
    if not chosen:
        raise DataError(f"{root}/images has no photograph for {split}: add some, or mend {root}/validation.txt")
    return chosen


def _held_out(root: Path, found: Sequence[Path]) -> set[str]:
    """Names to validate on: those of validation.txt, else those whose hash says so, whatever lies beside them."""
    listing = root / "validation.txt"
    if listing.exists():
        return {line.strip() for line in tables.lines(listing)} - {""}
    return {path.name for path in found if sha256(path.name.encode()).digest()[0] % 5 == 0}


def fixations(root: Path, bad: BadRows | None = None) -> dict[str, NDArray[np.float32]]:
    """Fixations by the photograph's name without suffix: N×2 (x, y) in pixels. Raises DataError."""
    table, bad = root / "fixations.csv.gz", bad or BadRows()
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for index, row in tables.rows(table, ("image", "x", "y")):
        with bad.row():
            place = (tables.pixel(table, index, row, "x"), tables.pixel(table, index, row, "y"))
            points[Path(row["image"]).stem].append(place)
    return {name: np.array(found, np.float32) for name, found in points.items()}


def records(root: Path, bad: BadRows) -> Iterator[Record]:
    """Every photograph with its fixations, sorted by name; those of validation.txt are held out."""
    points = fixations(root, bad)
    held_out = {path.name for path in photographs(root, "validation")} if (root / "validation.txt").exists() else set()
    for number, path in enumerate(photographs(root)):
        with bad.row():
            if path.stem not in points:
                raise DataError(f"{path} has no fixations in {root}/fixations.csv.gz: remove it or add its rows")
            photo = open_rgb(path, number)
            record = viewed(number, path, points[path.stem], photo.width, photo.height)
            yield dataclasses.replace(record, extra={**record.extra, HELD_OUT: path.name in held_out})


def samples(root: Path, split: Split | None, side: int, *, flips: bool = False) -> Iterator[Sample]:
    """Photographs with their true densities (`saliency`), without words; with `flips` each one mirrored, too."""
    points = fixations(root)
    for path in photographs(root, split):
        if path.stem not in points:
            raise DataError(f"{path} has no fixations in {root}/fixations.csv.gz: remove it or add its rows")
        photo = open_rgb(path)
        seen = points[path.stem] / (photo.width, photo.height)
        pixels = preprocess.stretch(photo, side, side)
        yield _sample(path.stem, pixels, seen, photo.width / photo.height)
        if flips:
            mirrored = np.stack([1 - seen[:, 0], seen[:, 1]], 1)
            yield _sample(f"{path.stem}-flipped", pixels[:, ::-1].copy(), mirrored, photo.width / photo.height)


def _sample(name: str, pixels: NDArray[np.uint8], seen: NDArray[np.floating[Any]], aspect: float) -> Sample:
    saliency = density(seen, SALIENCY_SIDE, SALIENCY_SIDE, aspect)
    return Sample(name, pixels, {}, {"saliency": saliency}, extra={"fixations": seen, "name": name})
