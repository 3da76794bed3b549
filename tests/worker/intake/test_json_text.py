"""JSON at the door: the public suite of odd documents, depth, and the cost of hostile ones."""

from __future__ import annotations

import gc
import json
import time
from pathlib import Path

import pytest

from worker.intake import json_text

I_SUITE_REFUSED = (  # free by RFC 8259, refused by the contract: out of double range, surrogates, not UTF-8, BOM
    "i_number_huge_exp",
    "i_number_neg_int_huge_exp",
    "i_number_pos_double_huge_exp",
    "i_number_real_neg_overflow",
    "i_number_real_pos_overflow",
    "i_object_key_lone_2nd_surrogate",
    "i_structure_UTF-8_BOM_empty_object",
)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e309",
        b"-1e309",
        b"9" * 400,
        b'"\\ud800"',
        b'{"\\udc00": 1}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b"'a'",
        b"[1,]",
        b"01",
    ],
)
def test_what_is_not_json_by_the_contract_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="not valid JSON"):
        json_text.loads(text)


def test_the_last_of_duplicate_names_counts() -> None:
    assert json_text.loads(b'{"a": 1, "a": {"b": 2}, "a": 3}') == {"a": 3}


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_thousand_levels_are_the_limit(opening: bytes, closing: bytes) -> None:
    inner = b"0" if opening != b"[" else b""
    json_text.loads(opening * 1000 + inner + closing * 1000)
    for levels in (1001, 1024, 1025, 100_000):
        with pytest.raises(ValueError, match=r"nested deeper|not valid JSON"):
            json_text.loads(opening * levels + inner + closing * levels)


def test_depth_counts_in_members_that_a_later_name_replaces() -> None:
    with pytest.raises(ValueError, match="nested deeper than 1000 levels"):
        json_text.loads(b'{"a": ' + b"[" * 1000 + b"]" * 1000 + b', "a": 1}')


@pytest.mark.parametrize(
    ("value", "depth"),
    [
        ({}, 1),
        ([[1], [[2]]], 3),
        ({"a]": '"[[[[', "b\\": ["\\\\"]}, 2),
        ('[["\\"[', 0),
        ({'\\"{': {'"': "\\"}}, 2),
        (5, 0),
    ],
)
def test_depth_looks_past_strings_and_escapes(value: object, depth: int) -> None:
    assert json_text.depth(json.dumps(value).encode()) == depth


def test_millions_of_brackets_cost_less_than_a_second_and_leave_the_collector_on() -> None:
    text = b"[" + b"[]," * 1_000_000 + b"[]]"
    started = time.process_time()
    json_text.loads(text)
    assert time.process_time() - started < 1.0
    assert gc.isenabled()


@pytest.mark.data
def test_the_public_suite(data_root: Path) -> None:
    wrong = []
    for path in sorted((data_root / "json_suite" / "test_parsing").iterdir()):
        try:
            json_text.loads(path.read_bytes())
            accepted = True
        except ValueError:
            accepted = False
        must = {"y": True, "n": False}.get(path.name[0])
        if must is None:
            must = not (path.stem in I_SUITE_REFUSED or path.stem.startswith("i_string_"))
        if accepted != must:
            wrong.append(path.name)
    assert wrong == []


@pytest.mark.data
def test_documents_where_parsers_differ_in_value(data_root: Path) -> None:
    folder = data_root / "json_suite" / "test_transform"
    assert json_text.loads((folder / "object_same_key_different_values.json").read_bytes()) == {"a": 2}
    assert json_text.loads((folder / "number_1e-999.json").read_bytes()) == [0.0]
    for path in folder.iterdir():
        if "invalid_codepoint" in path.name:
            with pytest.raises(ValueError, match="not valid JSON"):
                json_text.loads(path.read_bytes())
        else:
            json_text.loads(path.read_bytes())
