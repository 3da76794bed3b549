"""The Pitt image ads: topics and sentiments that annotators chose, OCR words, detected objects. For reports only.

Two layouts: `words`, ../shared/data/pitt_ads_text (one table, no pixels), and `folders`, as the authors publish them
(image folders with Topics.json and Sentiments.json). A label holds when any annotator chose it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.datasets import tables
from training.datasets.sample import BadRows, DataError, Label, Record

TOPICS = (
    "restaurant", "chocolate", "chips", "seasoning", "petfood", "alcohol", "coffee", "soda", "cars", "electronics",
    "phone_tv_internet_providers", "financial", "education", "security", "software", "other_service", "beauty",
    "healthcare", "clothing", "baby", "game", "cleaning", "home_improvement", "home_appliance", "travel", "media",
    "sports", "shopping", "gambling", "environment", "animal_right", "human_right", "safety",
    "smoking_alcohol_abuse", "domestic_violence", "self_esteem", "political", "charities",
)  # fmt: skip
"""Annotators' ids 1 to 38, in order; 39 and free text are "other"."""
SENTIMENTS = (
    "active", "afraid", "alarmed", "alert", "amazed", "amused", "angry", "calm", "cheerful", "confident", "conscious",
    "creative", "disturbed", "eager", "educated", "emotional", "empathetic", "fashionable", "feminine", "grateful",
    "inspired", "jealous", "loving", "manly", "persuaded", "pessimistic", "proud", "sad", "thrifty", "youthful",
)  # fmt: skip
"""Annotators' ids 1 to 30, in order."""


def words(root: Path, bad: BadRows) -> Iterator[Record]:
    """ads.csv.gz: `topics` and `sentiments` (float 0 or 1 per class), `topic` (the majority's, −1 without one)."""
    table = tables.first_of(root, "ads.csv.gz", "ads.csv")
    for index, row in tables.rows(table, ("image_id", "ocr_tokens", "objects", "topic_votes", "sentiment_votes")):
        with bad.row():
            where = f"{table}, row {index}"
            labels = _labels(
                where, row["topic_votes"].split("|"), _flat(where, _parsed(where, row["sentiment_votes"]))
            )  # fmt: skip
            if "topic" in row:
                labels["topic"] = TOPICS.index(row["topic"]) if row["topic"] in TOPICS else -1
            extra = {"objects": tuple(name for name in row["objects"].split("|") if name)}
            groups = (f"ad:{row['image_id']}",)
            yield Record(index, row["image_id"], None, {"ocr": row["ocr_tokens"]}, labels, groups, extra)


def folders(root: Path, bad: BadRows) -> Iterator[Record]:
    """The published layout: Topics.json and Sentiments.json ({"<folder>/<file>": votes}) beside the image folders
    `0` … `10` (or inside `annotations_images/image`, as the archives unpack). Ads whose picture isn't there are bad."""
    topics = _votes(root, "Topics.json")
    sentiments = _votes(root, "Sentiments.json")
    for index, name in enumerate(sorted(topics)):
        with bad.row():
            where = f"Topics.json, {name}"
            labels = _labels(where, _flat(where, topics[name]), _flat(where, sentiments.get(name, [])))
            picture = tables.picture(root, root / "Topics.json", index, name)
            if not picture.is_file():
                raise DataError(f"{picture} isn't there, which Topics.json names (row {index}): add it or --skip-bad")
            yield Record(index, name, picture, {}, labels, (f"ad:{name}",), {"objects": ()})


def _votes(root: Path, name: str) -> Mapping[str, Any]:
    table = next((path for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_file()), root / name)
    found = _parsed(str(table), tables.text(table))
    if not isinstance(found, dict):
        raise DataError(f"{table} isn't an object of votes by image; take the file as it was published")
    return found


def _parsed(where: str, text: str) -> Any:
    return tables.parsed(where, text or "[]", "mend it")


def _flat(where: str, votes: object) -> list[str]:
    """["12"] or [["12"], ["9", "14"]] → every vote."""
    if not isinstance(votes, list):
        raise DataError(f"{where}: votes must be a list, not {type(votes).__name__}; mend it")
    nested = [vote if isinstance(vote, list) else [vote] for vote in votes]
    return [str(one) for votes in nested for one in votes]


def _labels(where: str, topics: Sequence[str], sentiments: Sequence[str]) -> dict[str, Label]:
    """A row without any vote of a kind has no labels of it."""
    labels: dict[str, Label] = {}
    if any(topics):
        labels["topics"] = _marked(topics, len(TOPICS))
    if any(sentiments):
        outside = [vote for vote in sentiments if not vote.isdecimal() or not 1 <= int(vote) <= len(SENTIMENTS)]
        if outside:
            raise DataError(f"{where}: sentiment {outside[0]!r} is no id from 1 to {len(SENTIMENTS)}; mend it")
        labels["sentiments"] = _marked(sentiments, len(SENTIMENTS))
    return labels


def _marked(votes: Sequence[str], classes: int) -> NDArray[np.float32]:
    """Free text (the annotators' "other") marks nothing."""
    chosen = {int(vote) for vote in votes if vote.isascii() and vote.isdecimal()}
    return np.array([number in chosen for number in range(1, classes + 1)], np.float32)
