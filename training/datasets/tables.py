"""Sets of ../shared/data that are a table beside a folder of images, for reports: nothing shipped is trained on them.

Each reader yields a Sample per row, its number as id. A picture that can't be read raises DataError at its row.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from admodels.contract import preprocess
from training.creatives.vocabulary import TONES
from training.datasets.osie import open_rgb
from training.datasets.sample import DataError, Label, Sample


def tweets(root: Path, side: int) -> Iterator[Sample]:
    """mm_tweet_sentiment: `sentiment` of a picture and a text, read as the body."""
    table = root / "data.csv"
    for number, row in enumerate(_rows(table)):
        if row["sentiment"] not in TONES:
            raise DataError(f"{table}, row {number}: sentiment is {row['sentiment']!r}, not one of {', '.join(TONES)}")
        labels: dict[str, Label] = {"sentiment": TONES.index(row["sentiment"])}
        yield Sample(str(number), _pixels(root / row["image"], side), {"body": row["text"]}, labels)


def aesthetics(root: Path, side: int) -> Iterator[Sample]:
    """website_aesthetics: `score` from the mean rating, 1–9 scaled to [0, 1]; no text."""
    table = root / "rated.csv"
    for number, row in enumerate(_rows(table)):
        score = (_number(table, number, row, "mean_rating_1_9") - 1) / 8
        yield Sample(str(number), _pixels(root / row["image"], side), {}, {"score": score})


def upworthy(root: Path, side: int) -> Iterator[Sample]:
    """upworthy_ctr: `clicks` and `impressions` of headline packages; the pictures were never published, so grey."""
    table, grey = root / "packages.csv.gz", np.full((side, side, 3), 128, np.uint8)
    for number, row in enumerate(_rows(table)):
        seen, clicks = (_number(table, number, row, name) for name in ("impressions", "clicks"))
        labels: dict[str, Label] = {"impressions": seen, "clicks": clicks, "ctr": clicks / max(seen, 1.0)}
        extra = {"test": row["clickability_test_id"], "headline": row["headline"]}
        yield Sample(str(number), grey, {"headline": row["headline"]}, labels, extra=extra)


def _rows(table: Path) -> Iterator[dict[str, str]]:
    try:
        raw = table.read_bytes()
        text = (gzip.decompress(raw) if table.suffix == ".gz" else raw).decode("utf-8")
    except OSError as error:
        raise DataError(f"{table} can't be read ({error}): --root names the set's own folder") from error
    yield from csv.DictReader(io.StringIO(text, newline=""))


def _number(table: Path, number: int, row: dict[str, str], name: str) -> float:
    try:
        return float(row[name])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{table}, row {number}: needs a number as {name}") from error


def _pixels(path: Path, side: int) -> NDArray[np.uint8]:
    return preprocess.stretch(open_rgb(path), side, side)
