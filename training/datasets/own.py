"""One's own creatives: `creatives.csv` or `creatives.jsonl` in a folder, pictures beside it.

A row (a CSV line, or a JSON object per line) has any of these; what is empty, null or absent is unlabelled:

    id                      what names the creative; rows of one id stay in one split
    image                   the picture, a path inside the folder
    headline body cta brand ocr     the copy, and the words read from the picture
    score                   attractiveness in [0, 1]
    sentiment               negative, neutral or positive
    impressions clicks      counts
    share_likelihood attention      in [0, 1]
    theme emotion audience call_to_action monetary_mention object dominant_colour trust
                            a class of training/creatives/vocabulary.toml
    keywords                its keywords, a list or `|`-separated
    saliency                a grey picture, brighter where people looked; a path inside the folder
    fixations               [[x, y], …] in pixels of the picture (in CSV as JSON)
    test                    the A/B test that impressions and clicks come from; a test stays in one split

Any other name is an error: a label that is misspelt would be lost in silence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.creatives.vocabulary import label_sets
from training.datasets import tables
from training.datasets.sample import BadRows, DataError, Label, Record, open_rgb
from training.datasets.viewed import SALIENCY_SIDE
from training.saliency import density

COPY = ("headline", "body", "cta", "brand", "ocr")
_SHARES = ("score", "share_likelihood", "attention")
_OTHERS = ("id", "image", "impressions", "clicks", "keywords", "saliency", "fixations", "test")


def creatives(root: Path, bad: BadRows) -> Iterator[Record]:
    """Every row of creatives.csv or creatives.jsonl. Raises DataError for an unknown column."""
    table = tables.first_of(root, "creatives.jsonl", "creatives.csv")
    lines = _objects(table, bad) if table.suffix == ".jsonl" else tables.rows(table, ())
    known = {*COPY, *_SHARES, *_OTHERS, *label_sets()}
    for index, raw in lines:
        with bad.row():
            row = {name: _plain(value) for name, value in raw.items() if value not in (None, "")}
            if None in raw:
                raise DataError(f"{table}, row {index}: more cells than columns; quote the commas inside a cell")
            if unknown := sorted(set(row) - known):
                raise DataError(f"{table}, row {index}: unknown {unknown[0]!r}; there are {', '.join(sorted(known))}")
            yield _record(root, table, index, row)


def _record(root: Path, table: Path, index: int, row: Mapping[str, str]) -> Record:
    picture = tables.picture(root, table, index, row["image"]) if "image" in row else None
    name = row.get("id", str(index))
    labels: dict[str, Label] = {
        share: tables.number(table, index, row, share, 0, 1) for share in _SHARES if share in row
    }
    for head, classes in label_sets().items():
        if head in row and head != "keywords":
            labels[head] = tables.choice(table, index, row, head, classes)
    if "keywords" in row:
        labels["keywords"] = _keywords(table, index, row["keywords"])
    if "impressions" in row:
        impressions, clicks = tables.clicked(table, index, row)
        labels |= {"impressions": impressions, "clicks": clicks}
        labels["ctr"] = clicks / impressions if impressions else float("nan")
    extra: dict[str, Any] = {"test": row.get("test", f"row {index}"), "headline": row.get("headline", ""), "name": name}
    if picture is not None:
        _looks(root, table, index, row, picture, labels, extra)
    groups = (f"creative:{name}",) + ((f"test:{row['test']}",) if "test" in row else ())
    return Record(index, name, picture, {field: row[field] for field in COPY if field in row}, labels, groups, extra)


def _looks(
    root: Path, table: Path, index: int, row: Mapping[str, str], picture: Path, labels: dict[str, Label],
    extra: dict[str, Any],
) -> None:  # fmt: skip
    """The density where people looked: from fixations, else from a saliency map."""
    if "fixations" in row:
        photo = open_rgb(picture, index)
        seen = _points(table, index, row["fixations"]) / np.array([photo.width, photo.height], np.float32)
        labels["saliency"] = density(seen, SALIENCY_SIDE, SALIENCY_SIDE, photo.width / photo.height)
        extra |= {"fixations": seen, "aspect": photo.width / photo.height}
    elif "saliency" in row:
        grey = open_rgb(tables.picture(root, table, index, row["saliency"]), index).convert("L")
        heat = np.asarray(grey.resize((SALIENCY_SIDE, SALIENCY_SIDE), Image.Resampling.BILINEAR), np.float32)
        if not heat.any():
            raise DataError(f"{table}, row {index}: the saliency map {row['saliency']!r} is black; mend or drop it")
        labels["saliency"] = heat / heat.sum()


def _points(table: Path, index: int, cell: str) -> np.ndarray:
    try:
        points = np.array(json.loads(cell), np.float64)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"{table}, row {index}: fixations are no JSON list of [x, y]; mend it") from error
    if points.ndim != 2 or points.shape[1] != 2 or not (np.abs(points) <= tables.FARTHEST).all():
        raise DataError(f"{table}, row {index}: fixations must be [[x, y], …] in pixels; mend it")
    return points.astype(np.float32)


def _keywords(table: Path, index: int, cell: str) -> np.ndarray:
    allowed, named = label_sets()["keywords"], [name for name in cell.split("|") if name]
    if unknown := [name for name in named if name not in allowed]:
        raise DataError(f"{table}, row {index}: keyword {unknown[0]!r} is none of {', '.join(allowed)}")
    return np.array([name in named for name in allowed], np.float32)


def _objects(table: Path, bad: BadRows) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = [line for line in tables.lines(table) if line.strip()]
    for index, line in enumerate(lines):
        with bad.row():
            found = tables.parsed(f"{table}, row {index}", line, "one object per line")
            if not isinstance(found, dict):
                raise DataError(f"{table}, row {index}: a {type(found).__name__}, not an object; one object per line")
            yield index, found


def _plain(value: object) -> str:
    """A JSON value as CSV would hold it, so that both are checked by the same code."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "|".join(value)
    return json.dumps(value)
