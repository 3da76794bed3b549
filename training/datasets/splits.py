"""Which rows train, tune (early stopping, calibration) and validate. No split parts what belongs together.

Rows that share a creative, an A/B test or a picture's bytes form one group; groups are dealt by the hash of their
name, so that a row's place depends on no other row. Seed s validates on fold s of FOLDS: runs of several seeds
validate on rows of their own. A set that names its validation rows keeps to them with every seed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.datasets.sample import DataError, Record

FOLDS = 5
_TUNE_SHARE = 8
"""One group in so many of the rest is for tuning."""
HELD_OUT = "held_out"
"""In `extra`: this row validates with every seed."""


@dataclass(frozen=True)
class Split:
    """Places of the rows, each part in ascending order."""

    train: NDArray[np.int64]
    tune: NDArray[np.int64]
    validation: NDArray[np.int64]


def digests(records: Sequence[Record]) -> list[str]:
    """The sha256 of every picture's bytes, empty where there is no picture or it can't be read."""
    return [_digest(record) for record in records]


def groups(records: Sequence[Record], pictures: Sequence[str]) -> list[str]:
    """The name of every row's group: the least of the names that it shares with others, over any number of steps."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    names = [_names(record, digest) for record, digest in zip(records, pictures, strict=True)]
    for own in names:
        for other in own[1:]:
            one, two = sorted((find(own[0]), find(other)))
            parent[two] = one
    return [find(own[0]) for own in names]


def some(records: Sequence[Record], owners: Sequence[str], limit: int) -> list[Record]:
    """About `limit` rows in their order, whole groups of them, chosen by the hash of their name; all where they are
    fewer."""
    order = sorted(set(owners), key=lambda owner: _hash(f"limit:{owner}"))
    sizes = Counter(owners)
    kept: set[str] = set()
    for owner in order:
        if limit <= 0:
            break
        kept.add(owner)
        limit -= sizes[owner]
    return [record for record, owner in zip(records, owners, strict=True) if owner in kept]


def split(records: Sequence[Record], pictures: Sequence[str], seed: int) -> Split:
    """Deal the rows for a seed. Raises DataError when a part would be empty."""
    owners = groups(records, pictures)
    held_out = {owner for owner, record in zip(owners, records, strict=True) if record.extra.get(HELD_OUT)}
    parts: dict[str, list[int]] = {"train": [], "tune": [], "validation": []}
    for index, (owner, record) in enumerate(zip(owners, records, strict=True)):
        validates = owner in held_out if held_out else _deal(owner, "fold", FOLDS) == seed % FOLDS
        tunes = _deal(owner, f"tune {seed}", _TUNE_SHARE) == 0
        part = "validation" if validates else "tune" if tunes else "train"
        # A mirrored picture makes training rows only: it says nothing of its own about a model.
        if part == "train" or not record.mirrored:
            parts[part].append(index)
    for name, rows in parts.items():
        if not rows:
            raise DataError(f"{len(records)} rows leave none for {name}: a set needs some dozen groups at least")
    return Split(*(np.array(rows, np.int64) for rows in parts.values()))


def _names(record: Record, digest: str) -> list[str]:
    names = [*record.groups]
    if digest:
        names.append(f"picture {digest}")
    return names or [f"row {record.id}"]


def _deal(name: str, purpose: str, parts: int) -> int:
    return _hash(f"{purpose}:{name}") % parts


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def _digest(record: Record) -> str:
    if record.picture is None:
        return ""
    try:
        return hashlib.sha256(record.picture.read_bytes()).hexdigest()
    except OSError:
        return ""  # reported where the picture is opened
