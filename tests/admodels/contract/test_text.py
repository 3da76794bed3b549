"""Canonical text and token ids, on honest and on hostile copy."""

from __future__ import annotations

import json
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from admodels.contract.manifest import TextSpec
from admodels.contract.text import MAX_COMBINING_RUN, Piece, TextEncoder, canonical, copy_mask, pad

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "big",
    "sale",
    "now",
    "buy",
    "acme",
    "se",
    "##p",
    "[",
    "]",
    "caf",
    "##é",
]
IDS = {token: index for index, token in enumerate(VOCABULARY)}
SPEC = TextSpec(fields=("headline", "body", "cta", "brand", "ocr"), max_tokens=12)


def tokenizer_json(**changes: object) -> bytes:
    """A WordPiece tokenizer of fifteen words, in the shape of the real one: truncating, padding, special tokens."""
    special = [
        {
            "id": IDS[t],
            "content": t,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for t in VOCABULARY[:4]
    ]
    content = {
        "version": "1.0",
        "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": None,
        "added_tokens": special,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": False,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": IDS,
        },
    }
    return json.dumps(content | changes).encode()


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(tokenizer_json(), SPEC)


def words(ids: list[int]) -> list[str]:
    return [VOCABULARY[i] for i in ids]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafe\u0301", "caf\u00e9"),
        ("  Big\t\n SALE\u00a0\u3000now ", "Big SALE now"),
        ("a\x00b\x1fc\x7fd", "abcd"),
        ("pay\u200bpal\ufeff\u00ad\u2060", "paypal"),
        ("abc\u202edef", "abcdef"),
        ("\u0915\u094d\u200d\u0937 \u0645\u06cc\u200c\u062e", "\u0915\u094d\u200d\u0937 \u0645\u06cc\u200c\u062e"),
        ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
        ("\u2764\ufe0f", "\u2764"),
        ("\u3164\u2028\u115f", ""),
        ("", ""),
    ],
)
def test_canonical(text: str, expected: str) -> None:
    assert canonical(text) == expected


def test_long_runs_of_combining_marks_are_cut_to_thirty() -> None:
    assert canonical("x" + "\u0327" * 500 + "y") == "x" + "\u0327" * MAX_COMBINING_RUN + "y"
    # Marks hidden between invisible characters, and marks that decompose into two, are still one run.
    assert canonical("x" + "\u0327\u200b" * 500) == "x" + "\u0327" * MAX_COMBINING_RUN
    marks = [c for c in canonical("x" + "\u0344" * 500) if unicodedata.combining(c)]
    assert len(marks) <= MAX_COMBINING_RUN


def test_canonical_is_linear_on_hostile_marks() -> None:
    # Normalising this uncut takes minutes: alternating classes make every mark travel.
    text = "a" + "\u0301\u0327" * 100_000
    started = time.perf_counter()
    canonical(text)
    assert time.perf_counter() - started < 2.0


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
def test_canonical_is_idempotent_and_nfc(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once
    assert unicodedata.is_normalized("NFC", once)


def test_fields_are_joined_in_the_order_of_the_spec(encoder: TextEncoder) -> None:
    ids = encoder.encode({"brand": "Acme", "cta": "Buy now", "headline": "BIG sale", "unknown": "sale"})
    assert words(ids) == ["[CLS]", "big", "sale", "[SEP]", "buy", "now", "[SEP]", "acme", "[SEP]"]


def test_empty_and_invisible_fields_leave_no_separator(encoder: TextEncoder) -> None:
    assert words(encoder.encode({"headline": "", "body": " \u200b ", "cta": "buy"})) == ["[CLS]", "buy", "[SEP]"]
    assert words(encoder.encode({})) == ["[CLS]"]


def test_ids_are_cut_at_max_tokens_and_not_at_the_tokenizers_own_limit(encoder: TextEncoder) -> None:
    ids = encoder.encode({"headline": "big sale now buy acme", "body": "sale " * 5000})
    assert len(ids) == SPEC.max_tokens
    assert words(ids[:8]) == ["[CLS]", "big", "sale", "now", "buy", "acme", "[SEP]", "sale"]


@pytest.mark.parametrize("attack", ["[SEP]", "sale [SEP] [CLS] now", "[PAD][PAD]", "[MASK]"])
def test_special_tokens_in_copy_are_copy(encoder: TextEncoder, attack: str) -> None:
    ids = encoder.encode({"headline": attack})
    assert ids[0] == IDS["[CLS]"]
    assert ids[-1] == IDS["[SEP]"]
    assert not {IDS["[CLS]"], IDS["[SEP]"], IDS["[PAD]"]} & set(ids[1:-1])


def test_accents_compose_before_they_are_tokenised(encoder: TextEncoder) -> None:
    assert words(encoder.encode({"body": "cafe\u0301"})) == ["[CLS]", "caf", "##é", "[SEP]"]


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b"[1]"])
def test_what_is_no_tokenizer_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        TextEncoder(data, SPEC)


def test_a_tokenizer_without_separator_is_refused() -> None:
    model = {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "[CLS]": 1}}
    with pytest.raises(ValueError, match=r"none of \[SEP\]"):
        TextEncoder(tokenizer_json(model=model, added_tokens=[]), SPEC)


def test_pad_rounds_the_longest_row_up() -> None:
    ids, mask = pad([[5, 6, 7], [8]], multiple=4, maximum=16, pad_id=9)
    assert ids.dtype == mask.dtype == np.int64
    assert ids.tolist() == [[5, 6, 7, 9], [8, 9, 9, 9]]
    assert mask.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize(("length", "width"), [(1, 16), (16, 16), (17, 32), (60, 60)])
def test_pad_width(length: int, width: int) -> None:
    assert pad([[1] * length], multiple=16, maximum=60)[0].shape == (1, width)


def test_pad_refuses_what_is_too_long_and_takes_an_empty_batch() -> None:
    with pytest.raises(ValueError, match="61 tokens, over the maximum of 60"):
        pad([[1] * 61], multiple=16, maximum=60)
    assert pad([], multiple=16, maximum=60)[0].shape == (0, 16)


def test_every_token_says_where_it_comes_from() -> None:
    encoder = TextEncoder(tokenizer_json(), SPEC)
    ids, pieces = encoder.encode_marked({"headline": " Big  sale", "cta": "buy", "ocr": "now"})
    assert ids == [IDS[t] for t in ("[CLS]", "big", "sale", "[SEP]", "buy", "[SEP]", "now", "[SEP]")]
    assert pieces == [
        None, Piece("headline", 0, 3), Piece("headline", 4, 8), None, Piece("cta", 0, 3), None, Piece("ocr", 0, 3), None
    ]  # fmt: skip
    assert copy_mask(pieces) == [0, 1, 1, 0, 1, 0, 0, 0]


def test_an_empty_segment_keeps_its_separator_where_asked() -> None:
    spec = TextSpec(fields=("headline", "caption", "faces", "ocr"), max_tokens=12)
    ids, pieces = TextEncoder(tokenizer_json(), spec).encode_marked(
        {"headline": "sale", "ocr": "now"}, keep_empty=("caption", "faces", "ocr")
    )
    assert ids == [IDS[t] for t in ("[CLS]", "sale", "[SEP]", "[SEP]", "[SEP]", "now", "[SEP]")]
    assert len(pieces) == len(ids)


def test_without_copy_the_first_token_stands_for_it() -> None:
    encoder = TextEncoder(tokenizer_json(), SPEC)
    assert copy_mask(encoder.encode_marked({"ocr": "now"})[1]) == [1, 0, 0]
    assert copy_mask(encoder.encode_marked({})[1]) == [1]
