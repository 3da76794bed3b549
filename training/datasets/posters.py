"""movie_posters: a poster and its tagline, genres, popularity and rating. For reports only.

The tagline alone is read as copy: an overview of the film is none, and nearly names the genre. Ratings are of the film.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from training.datasets import tables
from training.datasets.sample import BadRows, DataError, Label, Record

GENRES = (
    "Action", "Adventure", "Animation", "Biography", "Comedy", "Crime", "Documentary", "Drama", "Family", "Fantasy",
    "History", "Horror", "Music", "Musical", "Mystery", "Romance", "Sci-Fi", "Sport", "Thriller", "War", "Western",
)  # fmt: skip
"""The genres with twenty films or more; others (News, Short) are read and not learnt."""
OTHERS = ("News", "Short", "Film-Noir", "Adult", "Reality-TV", "Talk-Show", "Game-Show")
JUDGED = ("Comedy", "Horror", "Action", "Romance", "Drama", "Thriller")
"""The six of `auc/mean6`."""
# Popularity spans four orders of magnitude: a logistic curve in its logarithm, a half at the median film's.
_MIDDLE, _SPREAD = math.log(0.6), 0.8


def posters(root: Path, bad: BadRows) -> Iterator[Record]:
    """posters.csv: `keywords` (GENRES, float 0 or 1), `share_likelihood` (popularity, squashed), `attention` (the
    film's IMDb rating ÷ 10); the poster is `image`, where the original is at hand, else `image_small`."""
    table = root / "posters.csv"
    for index, row in tables.rows(table, ("imdb_id", "image_small", "tagline", "genres")):
        with bad.row():
            labels: dict[str, Label] = {"keywords": _genres(table, index, row["genres"])}
            if row.get("tmdb_popularity"):
                labels["share_likelihood"] = popularity(tables.number(table, index, row, "tmdb_popularity", 0))
            if row.get("imdb_rating"):
                labels["attention"] = tables.number(table, index, row, "imdb_rating", 0, 10) / 10
            picture = tables.picture(root, table, index, row["image_small"])
            groups = (f"film:{row['imdb_id']}",)
            yield Record(index, row["imdb_id"], picture, {"headline": row["tagline"]}, labels, groups)


def popularity(value: float) -> float:
    """TMDb's popularity → (0, 1)."""
    return 1 / (1 + math.exp(-(math.log(max(value, 1e-4)) - _MIDDLE) / _SPREAD))


def _genres(table: Path, index: int, cell: str) -> np.ndarray:
    named = cell.split("|") if cell else []
    for name in named:
        if name not in GENRES and name not in OTHERS:
            raise DataError(f"{table}, row {index}: genre {name!r} is none of {', '.join(GENRES + OTHERS)}; mend it")
    return np.array([name in named for name in GENRES], np.float32)
