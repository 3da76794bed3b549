"""Features of the frozen encoders, computed once and kept on disk beside the run.

A store is a folder: `<map>.npy` fp16 N×C×h×w per feature map, `tokens.npy` fp16 N×L×D, `input_ids.npy` and `mask.npy`
N×L, `image.npy` uint8 of the first RECORDED rows, `label-<name>.npy`, `ids.json`. It is whole once `done` lies in it.
Feature maps are memory-mapped: what an epoch reads lies in the page cache, not in the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from training.datasets.sample import Sample
from training.encoders import SharedEncoders

RECORDED = 16
_BATCH = 16


@dataclass(frozen=True)
class Features:
    """One store, opened. `maps` by name, `labels` by name; everything has N rows."""

    ids: list[str]
    maps: dict[str, NDArray[np.float16]]
    tokens: NDArray[np.float16]
    input_ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    labels: dict[str, NDArray[Any]]
    images: NDArray[np.uint8]
    """Pixels of the first RECORDED rows, for the parity gate of an export."""
    extras: Sequence[Mapping[str, Any]] = ()
    """What metrics need beside labels, a mapping per row; empty where there is none."""
    more: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Inputs that only some models read, N rows each."""
    words: bytes | None = None
    """The word vectors that `tokens` are (`word_vectors.pack`), where no text encoder's."""

    def __len__(self) -> int:
        return len(self.ids)


def key_of(**parts: object) -> str:
    """A short name for a store, from everything that its contents depend on."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def cached(
    folder: Path, samples: Callable[[], Iterable[Sample]], count: int, encoders: SharedEncoders, maps: tuple[str, ...]
) -> Features:
    """Open the store in `folder`; compute it from `samples()` (exactly `count`) first if it isn't there."""
    if not (folder / "done").exists():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(partial, iter(samples()), count, encoders, maps)
        (partial / "done").touch()
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return _open(folder, maps)


def _write(
    folder: Path, samples: Iterator[Sample], count: int, encoders: SharedEncoders, names: tuple[str, ...]
) -> None:  # fmt: skip
    arrays: dict[str, NDArray[Any]] = {}
    length = encoders.text_spec.max_tokens
    ids: list[str] = []
    labels: list[dict[str, Any]] = []
    while batch := list(islice(samples, _BATCH)):
        images = np.stack([sample.image for sample in batch])
        for name, made in encoders.maps(images).items():
            if name in names:
                _rows(arrays, folder, name, made, count, len(ids), np.float16)
        words, mask = encoders.words([sample.fields for sample in batch])
        tokens = encoders.tokens(words, mask)
        texts: tuple[tuple[str, NDArray[Any], Any], ...]
        texts = (("tokens", tokens, np.float16), ("input_ids", words, int), ("mask", mask, int))
        for name, values, kind in texts:
            widths = [(0, 0), (0, length - values.shape[1])] + [(0, 0)] * (values.ndim - 2)
            _rows(arrays, folder, name, np.pad(values, widths), count, len(ids), kind)
        if len(ids) < RECORDED:
            _rows(arrays, folder, "image", images, min(count, RECORDED), len(ids), np.uint8)
        labels += [{**s.labels, "entities": encoders.entities.label(s.fields, s.spans)} for s in batch]
        ids += [sample.id for sample in batch]
    if len(ids) != count:
        raise ValueError(f"{len(ids)} rows came where {count} were announced")
    for name, column in columns(labels).items():
        np.save(folder / f"label-{name}.npy", column)
    (folder / "ids.json").write_text(json.dumps(ids), encoding="utf-8")


def _rows(
    arrays: dict[str, NDArray[Any]], folder: Path, name: str, values: NDArray[Any], count: int, start: int, kind: Any
) -> None:
    if name not in arrays:
        arrays[name] = open_memmap(folder / f"{name}.npy", "w+", kind, (count, *values.shape[1:]))
    room = arrays[name][start : start + len(values)]
    room[:] = values[: len(room)]


def columns(labels: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """Labels of rows → one array per name; where a row lacks one: −1 for whole numbers, NaN for others."""
    known = {name: value for row in labels for name, value in row.items()}
    arrays = {}
    for name, example in known.items():
        like = np.asarray(example)
        empty = np.full(like.shape, -1 if like.dtype.kind == "i" else np.nan, like.dtype)
        arrays[name] = np.stack([np.asarray(row.get(name, empty)) for row in labels])
    return arrays


def _open(folder: Path, names: tuple[str, ...]) -> Features:
    def load(name: str) -> Any:
        return np.load(folder / f"{name}.npy", mmap_mode="r")

    labels = {path.stem.removeprefix("label-"): np.load(path) for path in sorted(folder.glob("label-*.npy"))}
    return Features(
        ids=json.loads((folder / "ids.json").read_text(encoding="utf-8")),
        maps={name: load(name) for name in names},
        tokens=load("tokens"),
        input_ids=load("input_ids"),
        mask=load("mask"),
        labels=labels,
        images=load("image"),
    )
