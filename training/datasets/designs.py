"""saliency_designs: infographics with BubbleView clicks, read as fixations. For reports only.

The root holds `massvis` (or is that folder): images/*, bubbleview_clicks.csv with image, x, y in pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from training.datasets import tables
from training.datasets.sample import BadRows, DataError, Record, open_rgb
from training.datasets.viewed import viewed


def infographics(root: Path, bad: BadRows) -> Iterator[Record]:
    """One record per picture that has clicks, in the table's order of first mention."""
    folder = root / "massvis" if (root / "massvis").is_dir() else root
    table = tables.first_of(folder, "bubbleview_clicks.csv", "bubbleview_clicks.csv.gz")
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for index, row in tables.rows(table, ("image", "x", "y")):
        with bad.row():
            place = (tables.pixel(table, index, row, "x"), tables.pixel(table, index, row, "y"))
            points[row["image"]].append(place)
    for number, (name, clicks) in enumerate(points.items()):
        with bad.row():
            picture = _picture(folder, table, number, name)
            photo = open_rgb(picture, number)
            yield viewed(number, picture, np.array(clicks, np.float32), photo.width, photo.height)


def _picture(folder: Path, table: Path, number: int, name: str) -> Path:
    path = tables.picture(folder / "images", table, number, name)
    path = path if path.is_file() else folder / name
    if not path.is_file():
        raise DataError(f"{table} names {name}, which {folder}/images doesn't hold; add it or drop its rows")
    return path
