"""Every data set that `--dataset` names: how it is read, which labels a model needs for it, how it is judged.

A literal table. `generated` isn't in it: its rows are made, not read (datasets/generated.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training import judging
from training.creatives.vocabulary import TONES, label_sets
from training.datasets import aesthetics, designs, osie, own, pitt, posters, tweets, upworthy
from training.datasets.sample import BadRows, Record

Judge = Callable[[judging.Arrays, judging.Arrays, judging.Extras], dict[str, float]]


@dataclass(frozen=True)
class DataSet:
    """`records(root, bad)` in the table's order.

    text: the columns that are read as words. needs: outputs, any of which is judged. classes: class names by head,
    which a model trained on the set gets. values: its heads of one value. pictures: whether it has any.
    """

    records: Callable[[Path, BadRows], Iterator[Record]]
    judge: Judge
    needs: tuple[str, ...]
    text: tuple[str, ...] = ()
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    values: tuple[str, ...] = ()
    pictures: bool = True
    licence: str = "no licence to ship what is trained on it: for reports only"


_TONES: Mapping[str, Any] = {"sentiment": TONES}
_ADS: Mapping[str, Any] = {"topics": pitt.TOPICS, "emotions": pitt.SENTIMENTS}
_LOGITS = ("topics_logits", "emotions_logits")
_MIT = "MIT (OSIE photographs and fixations)"

DATASETS: dict[str, DataSet] = {
    "saliency_osie": DataSet(osie.records, judging.gaze, ("heatmap",), licence=_MIT),
    "saliency_designs": DataSet(designs.infographics, judging.gaze, ("heatmap",)),
    "website_aesthetics": DataSet(aesthetics.pages, judging.appeal, ("score",)),
    "mm_tweet_sentiment": DataSet(tweets.pairs, judging.polarity, ("sentiment_logits",), ("text",), _TONES),
    "twitter": DataSet(tweets.targets, judging.polarity, ("sentiment_logits",), ("String",), _TONES),
    "movie_posters": DataSet(
        posters.posters, judging.genres, ("keywords_logits",), ("tagline",), {"keywords": posters.GENRES},
        ("share_likelihood", "attention"),
    ),
    "pitt_ads_text": DataSet(pitt.words, judging.ads, _LOGITS, ("ocr_tokens", "objects"), _ADS, pictures=False),
    "pitt_ads": DataSet(pitt.folders, judging.ads, _LOGITS, (), _ADS),
    "upworthy_ctr": DataSet(
        upworthy.packages, judging.clicks, ("ctr",), ("headline", "excerpt"), values=("ctr",), pictures=False
    ),
    "creatives": DataSet(
        own.creatives, judging.whatever, ("score", "heatmap", "sentiment_logits", "ctr"), own.COPY, label_sets(),
        ("ctr", "share_likelihood", "attention"), licence="whoever's creatives they are",
    ),
}  # fmt: skip
