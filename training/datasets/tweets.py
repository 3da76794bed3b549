"""Tweets with a picture and a polarity: mm_tweet_sentiment, and the papers' Twitter-2015/2017. For reports only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from training.creatives.vocabulary import TONES
from training.datasets import tables
from training.datasets.sample import BadRows, DataError, Label, Record

_TARGET = "$T$"
_SPLITS = ("train", "dev", "test")


def pairs(root: Path, bad: BadRows) -> Iterator[Record]:
    """mm_tweet_sentiment: data.csv with image, text, sentiment. The text is read as the body."""
    table = root / "data.csv"
    for index, row in tables.rows(table, ("image", "text", "sentiment")):
        with bad.row():
            labels: dict[str, Label] = {"sentiment": tables.choice(table, index, row, "sentiment", TONES)}
            picture = tables.picture(root, table, index, row["image"])
            yield Record(
                index, row.get("guid") or str(index), picture, {"body": row["text"]}, labels, _same(row["text"])
            )


def targets(root: Path, bad: BadRows) -> Iterator[Record]:
    """Twitter-2015/2017 as TomBERT publishes them: train.tsv, dev.tsv and test.tsv (or one of them).

    Columns index, #1 Label, #2 ImageID, #3 String (the tweet with $T$ for the target), #3 String (the target);
    pictures lie in `images`, or in a folder that ends in _images. One tweet has a row per target: they share a group.
    """
    found = [root / f"{name}.tsv" for name in _SPLITS if (root / f"{name}.tsv").is_file()]
    if not found:
        raise DataError(f"{root} has none of train.tsv, dev.tsv, test.tsv: --root names the folder that holds them")
    folder = next((path for path in sorted(root.glob("*images")) if path.is_dir()), root / "images")
    number = 0
    for table in found:
        cells = [line.split("\t") for line in tables.lines(table)]
        negative = any(len(row) == 5 and row[1] == "-1" for row in cells)
        for index, row in enumerate(cells[1:]):
            with bad.row():
                yield _target(folder, table, index, number + index, row, negative=negative)
        number += len(cells) - 1


def _target(
    folder: Path, table: Path, index: int, number: int, row: list[str], *, negative: bool
) -> Record:  # fmt: skip
    if len(row) != 5:
        raise DataError(
            f"{table}, row {index}: {len(row)} columns, not 5 (index, label, image, tweet, target); mend it"
        )
    _, label, image, tweet, target = row
    labels: dict[str, Label] = {"sentiment": _polarity(table, index, label, negative=negative)}
    words = tweet.replace(_TARGET, target)
    start = tweet.find(_TARGET)
    extra = {"target": (start, start + len(target))} if start >= 0 else {}
    picture = tables.picture(folder, table, index, image)
    return Record(number, f"{table.stem}-{index}", picture, {"body": words}, labels, _same(words), extra=extra)


def _polarity(table: Path, index: int, label: str, *, negative: bool) -> int:
    if negative and label in ("-1", "0", "1"):
        return int(label) + 1
    if label not in ("0", "1", "2"):
        raise DataError(f"{table}, row {index}: the label is {label!r}, not 0, 1 or 2 (negative, neutral, positive)")
    return int(label)


def _same(text: str) -> tuple[str, ...]:
    """A tweet that was sent twice, or has several targets, is one."""
    return (f"tweet {hashlib.sha256(text.encode()).hexdigest()}",)
