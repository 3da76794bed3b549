"""website_aesthetics: screenshots with their mean human appeal. For reports only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets import tables
from training.datasets.sample import BadRows, Label, Record

LOWEST, HIGHEST = 1, 9


def pages(root: Path, bad: BadRows) -> Iterator[Record]:
    """rated.csv: `score`, the mean rating scaled from 1–9 to [0, 1]; no text."""
    table = root / "rated.csv"
    for index, row in tables.rows(table, ("image", "mean_rating_1_9")):
        with bad.row():
            rating = tables.number(table, index, row, "mean_rating_1_9", LOWEST, HIGHEST)
            labels: dict[str, Label] = {"score": (rating - LOWEST) / (HIGHEST - LOWEST)}
            picture = tables.picture(root, table, index, row["image"])
            yield Record(index, row.get("id") or str(index), picture, {}, labels)
