"""Rows of words, hashed as fastText hashes them, robust to what OCR drops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from admodels.contract.subwords import MAX_WORD_CHARACTERS, Subwords, hash_ngrams, ngrams, pad_rows, words_of

SUBWORDS = Subwords(["sale", "shoes"], buckets=1000)


def fnv(gram: str) -> int:
    """fastText's own loop, in plain Python."""
    value = 2166136261
    for byte in gram.encode():
        value = ((value ^ ((byte - 256 if byte > 127 else byte) & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return value


@given(st.lists(st.text(min_size=1, max_size=8), max_size=6))
def test_the_hash_is_fasttexts(grams: list[str]) -> None:
    grams = [gram for gram in grams if not any("\ud800" <= c <= "\udfff" for c in gram)]
    assert hash_ngrams(grams).tolist() == [fnv(gram) for gram in grams]


def test_the_n_grams_are_gensims() -> None:
    inner = pytest.importorskip("gensim.models.fasttext_inner")
    for word in ("sale", "a", "夏のセール", "don't"):
        for lengths in ((3, 6), (1, 2), (4, 4)):
            ours = ngrams(word, *lengths)
            assert [gram.encode() for gram in ours] == inner.compute_ngrams_bytes(word, *lengths)
            assert hash_ngrams(ours).tolist() == [inner.ft_hash_bytes(gram.encode()) for gram in ours]


def test_rows_are_padding_then_words_then_buckets() -> None:
    assert SUBWORDS.rows == 1003
    known, unknown = SUBWORDS.encode(["shoes", "shoos"])
    assert known[0] == 2
    grams = ngrams("shoes", 3, 6)
    assert known[1:] == [3 + fnv(gram) % 1000 for gram in grams]
    assert len(unknown) == len(grams)
    assert min(unknown) >= 3
    assert SUBWORDS.encode([]) == []


def test_a_dropped_character_leaves_most_rows() -> None:
    whole, broken = (set(rows) for rows in SUBWORDS.encode(["automobiles", "automoiles"]))
    other = set(SUBWORDS.encode(["restaurant"])[0])
    assert len(whole & broken) / len(broken) > 0.4
    assert len(whole & other) / len(other) < 0.1


def test_words_are_lower_case_and_bounded() -> None:
    assert words_of("SALE: 50% off — Don’t_miss!", 9) == ["sale", "50", "off", "don’t", "miss"]
    assert words_of("a b c d", 2) == ["a", "b"]
    assert words_of("x" * 5000, 2) == ["x" * MAX_WORD_CHARACTERS]
    assert words_of("", 2) == []


def test_padding_keeps_creatives_apart() -> None:
    rows, mask = pad_rows([[[5, 6], [7]], [], [[], [8, 9, 10]]])
    assert rows.tolist() == [[[5, 6, 0], [7, 0, 0]], [[0, 0, 0], [0, 0, 0]], [[8, 9, 10], [0, 0, 0]]]
    assert mask.tolist() == [[1, 1], [0, 0], [1, 0]]
    assert pad_rows([])[0].shape == (0, 1, 1)
    assert rows.dtype == mask.dtype == np.int64


def test_the_vocabulary_survives_json_and_garbage_does_not_read() -> None:
    again = Subwords.from_json(SUBWORDS.to_json())
    assert (again.words, again.encode(["sales"])) == (SUBWORDS.words, SUBWORDS.encode(["sales"]))
    for garbage in (
        b"",
        b"[]",
        b"{}",
        b'{"words":[1],"buckets":2}',
        b'{"words":[],"buckets":0}',
        b'{"words":[],"x":1}',
    ):
        with pytest.raises(ValueError, match="can't be read"):
            Subwords.from_json(garbage)
