"""Words as vectors that survive OCR's dropped characters, in the text encoder's place: learned from a run's own
training rows (admodels/word_vectors.py), kept beside its weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from admodels.contract.subwords import words_of
from admodels.word_vectors import mean_vectors, pack, train, unpack
from training.config import SubwordsConfig
from training.datasets.sample import Record
from training.features import key_of

MOST = 64
"""Words of one text; further ones are left out."""


class SubwordVectors:
    """A trained table, applied to texts; `packed` is the file of it. Every word's vector is computed once."""

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self._trained = unpack(packed)
        self._known: dict[str, NDArray[np.float32]] = {}

    def arrays(self, texts: Sequence[Mapping[str, str]]) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """Texts by field → vectors N×L×F and mask N×L, L the longest one's words (at least 1, at most MOST)."""
        rows = [_words(fields) for fields in texts]
        self._learn({word for row in rows for word in row})
        length = max([1, *map(len, rows)])
        vectors = np.zeros((len(rows), length, self._trained.table.shape[1]), np.float16)
        mask = np.zeros((len(rows), length), np.int64)
        for index, row in enumerate(rows):
            for place, word in enumerate(row):
                vectors[index, place] = self._known[word]
            mask[index, : len(row)] = 1
        return vectors, mask

    def _learn(self, words: set[str]) -> None:
        new = sorted(words - set(self._known))
        self._known |= dict(zip(new, mean_vectors(self._trained, new), strict=True))


def learned(
    folder: Path, rows: Sequence[Record], config: SubwordsConfig, report: Callable[[str], None]
) -> SubwordVectors:  # fmt: skip
    """The vectors of these rows' words: opened where `folder` has them, else trained and kept there."""
    corpus = [words for record in rows if (words := _words(record.fields))]
    kept = folder / f"subwords-{key_of(corpus=corpus, config=config.model_dump())}.safetensors"
    if kept.exists():
        return SubwordVectors(kept.read_bytes())
    report(f"word vectors of {len(corpus)} texts → {kept}")
    packed = pack(train(corpus, dim=config.dim, buckets=config.buckets, epochs=config.epochs))
    folder.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(packed)
    partial.replace(kept)
    return SubwordVectors(packed)


def _words(fields: Mapping[str, Any]) -> list[str]:
    return words_of(" ".join(fields.values()), MOST)
