"""Words as rows of a table of word and n-gram vectors: fastText's method, which OCR's dropped characters don't break.

A word's vector is the mean over its own row, where it has one, and the rows of its hashed character n-grams; here the
rows are found, in numpy, and a model's graph holds the table. M words, G rows of one word.

Row 0 is padding, then come the vocabulary's words, then the buckets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from admodels.contract.text import canonical

MAX_WORD_CHARACTERS = 24
"""Longer ones are cut: no word that is read is longer, and each character is four rows more."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_FNV_OFFSET, _FNV_PRIME = np.uint32(2166136261), np.uint32(16777619)


def words_of(text: str, limit: int) -> list[str]:
    """The first `limit` words of a text in any form: lower case, letters and digits with apostrophes inside."""
    found = (match.group() for match in _WORD.finditer(canonical(text).lower()))
    return [word[:MAX_WORD_CHARACTERS] for _, word in zip(range(limit), found, strict=False)]


class Subwords:
    """Finds rows. min_n, max_n: lengths of the n-grams of `<word>` in characters; buckets: what their hashes fall into.

    Raises ValueError for numbers that make no n-grams.
    """

    def __init__(self, words: Iterable[str], *, buckets: int, min_n: int = 3, max_n: int = 6) -> None:
        if not (1 <= min_n <= max_n and buckets >= 1):
            raise ValueError(f"n-grams need 1 ≤ min_n ≤ max_n and a bucket; got {min_n}, {max_n} and {buckets}")
        self.words = tuple(words)
        self.buckets, self.min_n, self.max_n = buckets, min_n, max_n
        self._row = {word: number for number, word in enumerate(self.words, start=1)}

    @property
    def rows(self) -> int:
        """Rows of the table, padding included."""
        return 1 + len(self.words) + self.buckets

    def encode(self, words: Sequence[str]) -> list[list[int]]:
        """The rows of each word. A word without n-grams (only where max_n exceeds none of it) has its own row alone."""
        grams = [ngrams(word, self.min_n, self.max_n) for word in words]
        hashed = hash_ngrams([gram for each in grams for gram in each]) % np.uint32(self.buckets)
        places = iter((hashed.astype(np.int64) + (1 + len(self.words))).tolist())
        rows = []
        for word, each in zip(words, grams, strict=True):
            own = [self._row[word]] if word in self._row else []
            rows.append(own + [next(places) for _ in each])
        return rows

    def to_json(self) -> bytes:
        """What `from_json` reads."""
        plain = {"buckets": self.buckets, "min_n": self.min_n, "max_n": self.max_n, "words": self.words}
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Subwords:
        """Raises ValueError for anything that `to_json` doesn't write."""
        try:
            plain = json.loads(data)
            words = plain.pop("words")
            if not all(isinstance(word, str) for word in words):
                raise ValueError("a word isn't a string")
            return cls(words, **plain)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"the vocabulary of subwords can't be read ({error}); export the bundle again") from error


def pad_rows(creatives: Sequence[Sequence[Sequence[int]]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the words of B creatives → (rows B×M×G, 0 where there is none; mask B×M, 1 at real words); M, G ≥ 1.

    A word without any row is left out.
    """
    kept = [[word for word in creative if word] for creative in creatives]
    m = max([1, *(len(creative) for creative in kept)])
    g = max([1, *(len(word) for creative in kept for word in creative)])
    rows, mask = np.zeros((len(kept), m, g), np.int64), np.zeros((len(kept), m), np.int64)
    for b, creative in enumerate(kept):
        mask[b, : len(creative)] = 1
        for n, word in enumerate(creative):
            rows[b, n, : len(word)] = word
    return rows, mask


def ngrams(word: str, min_n: int, max_n: int) -> list[str]:
    """The character n-grams of `<word>`, as fastText takes them: the boundary marks alone are none."""
    marked = f"<{word}>"
    return [
        marked[start : start + n]
        for start in range(len(marked))
        for n in range(min_n, max_n + 1)
        if start + n <= len(marked) and not (n == 1 and (start == 0 or start == len(marked) - 1))
    ]


def hash_ngrams(grams: Sequence[str]) -> NDArray[np.uint32]:
    """fastText's hash of each: FNV-1a over the UTF-8 bytes, taken as signed."""
    encoded = [gram.encode() for gram in grams]
    width = max((len(each) for each in encoded), default=0)
    lengths = np.array([len(each) for each in encoded], dtype=np.int64)
    bytes_ = np.zeros((len(encoded), width), np.uint8)
    for n, each in enumerate(encoded):
        bytes_[n, : len(each)] = np.frombuffer(each, np.uint8)
    signed = bytes_.view(np.int8).astype(np.int32).view(np.uint32)
    hashes = np.full(len(encoded), _FNV_OFFSET, np.uint32)
    for column in range(width):
        hashes = np.where(column < lengths, (hashes ^ signed[:, column]) * _FNV_PRIME, hashes)
    return hashes
