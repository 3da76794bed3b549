"""Events by the contract's fine print: fields, copy, images, ids, lastmod, withdrawals, the order of verdicts."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import Code, CreativeError, Stage
from worker.intake.events import effective_lastmod, parse_record
from worker.types import Asset, Copy, Creative, Headers, Origin, Record, Withdrawal

NOW = 1_763_750_000_000
DAY = 86_400_000
SECRET = "s3cr3t-canary"

FULL: dict[str, Any] = {
    "ad": {
        "id": "cr-123",
        "adomain": ["example.com"],
        "cat": ["1013"],
        "cattax": 8,
        "lang": "en",
        "attr": [21, 3],
        "init": NOW,
        "lastmod": NOW - 5,
        "display": {
            "mime": "image/jpeg",
            "w": 300,
            "h": 250,
            "banner": {"img": "https://cdn.example/c.jpg", "link": {"url": "https://example.com"}},
        },
    },
    "copy": {"headline": "H", "body": "B", "cta": "C", "brand": "R"},
    "asset": {"sha256": "AB" * 32, "bytes": 41231},
    "ocr_text": None,
    "context": {"advertiser_id": "a1", "campaign_id": "c9", "placement": "display"},
    "ext": {},
}


def record(value: Any, *, key: bytes | None = b"k", headers: Headers = (), timestamp: int = NOW) -> Record:
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return Record(Origin("creatives", 0, 7, timestamp), key, raw, headers)


def parse(value: Any, **options: Any) -> Creative:
    creative = parse_record(record(value, **options))
    assert isinstance(creative, Creative)
    return creative


def event(**changes: Any) -> dict[str, Any]:
    """FULL with dotted paths (`ad__display__banner`) replaced; a change to `...` removes the field."""
    value = copy.deepcopy(FULL)
    for path, change in changes.items():
        *parents, last = path.split("__")
        target = value
        for name in parents:
            target = target[name]
        if change is ...:
            del target[last]
        else:
            target[last] = change
    return value


def native(*assets: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"ad": {"id": "n", "display": {"native": {"asset": list(assets)}}}, **more}


def verdict(value: Any, **options: Any) -> tuple[Code, Stage]:
    with pytest.raises(CreativeError) as caught:
        parse_record(record(value, **options))
    assert SECRET not in caught.value.message
    assert not caught.value.retryable
    return caught.value.code, caught.value.stage


BAD_EVENT = (Code.BAD_EVENT, Stage.EVENT)
MISSING = (Code.MISSING_IMAGE, Stage.EVENT)


def test_every_field_of_the_full_event() -> None:
    assert parse(FULL) == Creative(
        creative_id="cr-123",
        lastmod=NOW - 5,
        image_url="https://cdn.example/c.jpg",
        copy=Copy("H", "B", "C", "R"),
        asset=Asset("ab" * 32, 41231),
        ocr_text=None,
        lang="en",
        attr=(21, 3),
        written=NOW,
    )


def test_the_smallest_event() -> None:
    got = parse({"ad": {"id": "x", "display": {"banner": {"img": "data:,"}}}})
    assert got == Creative("x", NOW, "data:,", written=NOW)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [below for name, item in inner for below in _paths(item, (*path, name))]


NATIVE_FULL = native(
    {"id": 1, "req": 1, "title": {"text": "t", "len": 25}, "link": {"url": "u"}},
    {"id": 2, "image": {"url": "https://x", "w": 1, "h": 1, "type": 3}},
    {"id": 3, "data": {"value": "v", "len": 9, "type": 2}},
    ocr_text="text",
)
NATIVE_FULL["ad"]["display"]["native"]["link"] = {"url": "u"}


@pytest.mark.parametrize("base", [{**FULL, "ocr_text": "text"}, NATIVE_FULL], ids=["banner", "native"])
def test_a_known_field_of_any_wrong_type_is_bad_event_and_null_is_absent(base: dict[str, Any]) -> None:
    for path in _paths(base):
        for wrong in (True, SECRET, 1.5, [SECRET, [None]], {"x": SECRET}):
            value = copy.deepcopy(base)
            target = value
            for name in path[:-1]:
                target = target[name]
            right = target[path[-1]]
            target[path[-1]] = wrong
            fits = type(wrong) is type(right) and not isinstance(wrong, list)
            if not fits:
                assert verdict(value) == BAD_EVENT, (path, wrong)
            target[path[-1]] = None
            if isinstance(path[-1], int):
                assert verdict(value) == BAD_EVENT, path  # null is no item
            elif path in (("ad",), ("ad", "id")):
                assert verdict(value) == BAD_EVENT
            elif "display" in path and path[-1] in ("display", "banner", "native", "img", "asset", "image", "url"):
                continue  # absent: another verdict, or none
            else:
                parse(value)


def test_unknown_fields_are_ignored_but_must_be_json() -> None:
    assert parse(event(ad__zzz=[1, {"deep": None}], zzz="x")).creative_id == "cr-123"
    assert verdict(json.dumps(FULL)[:-1].encode() + b', "zzz": NaN}') == BAD_EVENT
    assert verdict(json.dumps(FULL)[:-1].encode() + b', "zzz": "\\ud800"}') == BAD_EVENT


@pytest.mark.parametrize("value", [b"", b"[]", b"null", b'"ad"', b"1", b"{", [], 5, "x", {}, {"ad": {}}, {"ad": []}])
def test_a_value_that_is_no_event(value: Any) -> None:
    assert verdict(value) == BAD_EVENT


@pytest.mark.parametrize("creative_id", ["", "a\nb", "\x00", "a\x7f", "a\x85", "ä" * 257, "a" * 513, 5, None, ["a"]])
def test_bad_ids(creative_id: Any) -> None:
    assert verdict(event(ad__id=creative_id)) == BAD_EVENT


@pytest.mark.parametrize("creative_id", ["a" * 512, "ä" * 256, "عربي 😀", "a/b?c", " ", "\u200d"])
def test_good_ids(creative_id: str) -> None:
    assert parse(event(ad__id=creative_id)).creative_id == creative_id


@pytest.mark.parametrize("lastmod", [-1, 2**53, 1.5, "1", True, 1e300, [1]])
def test_bad_lastmod(lastmod: Any) -> None:
    assert verdict(event(ad__lastmod=lastmod)) == BAD_EVENT


@pytest.mark.parametrize(
    ("lastmod", "timestamp", "orders"),
    [
        (None, NOW, NOW),
        (0, NOW, 0),
        (NOW + DAY, NOW, NOW + DAY),
        (NOW + DAY + 1, NOW, NOW),
        (2**53 - 1, NOW, NOW),
        (5, -1, 5),
        (None, -1, 0),
        (2**53 - 1, -1, 2**53 - 1),
        (None, 2**62, 2**53 - 1),
    ],
)
def test_what_orders_revisions(lastmod: int | None, timestamp: int, orders: int) -> None:
    assert parse(event(ad__lastmod=lastmod), timestamp=timestamp).lastmod == orders
    assert effective_lastmod(lastmod, timestamp) == orders


def test_a_whole_number_may_be_written_with_a_fraction_of_zero() -> None:
    got = parse(json.dumps(FULL).replace(str(NOW - 5), "1.0e3").encode())
    assert got.lastmod == 1000
    assert type(got.lastmod) is int


@pytest.mark.parametrize("url", ["", " ", "\t\n", "\u00a0"])
def test_an_empty_url_is_a_missing_image(url: str) -> None:
    assert verdict(event(ad__display__banner__img=url)) == MISSING


@pytest.mark.parametrize(
    "display",
    [None, {}, {"banner": {}}, {"banner": {"img": None}}, {"native": {}}, {"native": {"asset": []}}],
)
def test_no_image_at_all(display: Any) -> None:
    assert verdict(event(ad__display=display)) == MISSING
    assert verdict(event(ad__display=...)) == MISSING


@pytest.mark.parametrize(
    ("types", "chosen"),
    [([3], 0), ([1, 3], 1), ([None, 3], 1), ([1, None, None], 1), ([2, None], 1), ([3, 3], 0), ([4, None], 1)],
)
def test_the_main_image_of_a_native_ad(types: list[int | None], chosen: int) -> None:
    images = [{"image": {"url": f"https://x/{i}", **({} if t is None else {"type": t})}} for i, t in enumerate(types)]
    assert parse(native(*images)).image_url == f"https://x/{chosen}"


@pytest.mark.parametrize("types", [[1], [2], [1, 2], [500]])
def test_an_icon_or_a_logo_is_no_main_image(types: list[int]) -> None:
    assert verdict(native(*({"image": {"url": "https://x", "type": t}} for t in types))) == MISSING


def test_copy_of_native_assets_and_which_wins() -> None:
    assets = [
        {"image": {"url": "https://x", "type": 3}},
        {"title": {"text": "native title"}},
        {"title": {"text": "second title"}},
        {"data": {"type": 1, "value": "native brand"}},
        {"data": {"type": 2, "value": "native body"}},
        {"data": {"type": 12, "value": "native cta"}},
        {"data": {"type": 6, "value": "a price"}},
        {"data": {"value": "no type"}},
    ]
    assert parse(native(*assets)).copy == Copy("native title", "native body", "native cta", "native brand")
    mixed = parse(native(*assets, copy={"headline": "given", "brand": None, "cta": ""})).copy
    assert mixed == Copy("given", "native body", "", "native brand")


@pytest.mark.parametrize("field", ["headline", "body", "cta", "brand"])
def test_copy_over_8000_characters_is_bad_text(field: str) -> None:
    assert getattr(parse(event(copy={field: "😀" * 8000})).copy, field) == "😀" * 8000
    assert verdict(event(copy={field: "e\u0301" * 4000 + "x"})) == (Code.BAD_TEXT, Stage.TEXT)
    title = {"title": {"text": "x" * 8001}}
    image = {"image": {"url": "https://x"}}
    assert verdict(native(title, image)) == (Code.BAD_TEXT, Stage.TEXT)
    assert parse(native(title, image, copy={"headline": "wins"})).copy.headline == "wins"


def test_the_first_stage_that_refuses_gives_the_code() -> None:
    long = {"headline": "x" * 8001}
    assert verdict(event(copy=long, ad__display=None)) == MISSING
    assert verdict(event(copy=long, ad__display=None, ad__lastmod=-1)) == BAD_EVENT
    assert verdict(event(copy={**long, "body": 5}, ad__display=None)) == BAD_EVENT


def test_given_ocr_text_is_cut_at_8_kib_on_a_character() -> None:
    assert parse(event(ocr_text="")).ocr_text == ""
    assert parse(event(ocr_text="x" * 8192)).ocr_text == "x" * 8192
    assert parse(event(ocr_text="日" * 5000)).ocr_text == "日" * 2730


def test_at_most_64_declared_attributes_are_kept() -> None:
    assert parse(event(ad__attr=list(range(100)))).attr == tuple(range(64))


def test_odd_unicode_comes_through_untouched() -> None:
    odd = "שלום\u202e 👨\u200d👩\u200d👧 日本語\x00\u0301" * 3
    assert parse(event(copy={"headline": odd})).copy.headline == odd


def test_a_withdrawal_is_named_by_the_key_then_by_the_subject() -> None:
    trace = (("traceparent", b"00-x"),)
    assert parse_record(record(None, key="é".encode(), headers=trace)) == Withdrawal("é", trace)
    subject: Headers = (("ce_subject", b"old"), ("ce_subject", b"cr-9"), ("ce_subject", None))
    assert parse_record(record(None, key=None, headers=subject)) == Withdrawal("cr-9")
    assert parse_record(record(None, key=b"k", headers=subject)) == Withdrawal("k")


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"a\nb", b"x" * 513])
def test_a_withdrawal_of_nobody(key: bytes | None) -> None:
    assert verdict(None, key=key) == BAD_EVENT
    if key is not None:
        assert verdict(None, key=key, headers=(("ce_subject", b"valid"),)) == BAD_EVENT
        assert verdict(None, key=None, headers=(("ce_subject", key),)) == BAD_EVENT


def test_an_empty_value_is_not_null() -> None:
    assert verdict(b"") == BAD_EVENT


def test_keys_and_headers_may_be_any_bytes() -> None:
    headers: Headers = tuple((f"h{i}\udcff", b"\xff" * 10) for i in range(5000))
    assert parse(FULL, key=b"\xff\xfe", headers=headers).creative_id == "cr-123"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.sampled_from([path for path in _paths(FULL) if not isinstance(path[-1], int)]), json_values)
def test_any_json_in_any_known_field_is_a_creative_or_a_verdict(path: tuple[str, ...], junk: Any) -> None:
    value = copy.deepcopy(FULL)
    target = value
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = junk
    try:
        got: Creative | Withdrawal | Code = parse_record(record(value))
    except CreativeError as error:
        got = error.code
    assert isinstance(got, Creative) or got in (Code.BAD_EVENT, Code.MISSING_IMAGE, Code.BAD_TEXT)


@given(st.binary(max_size=200), st.one_of(st.none(), st.binary(max_size=20)))
def test_any_bytes_are_a_creative_or_a_verdict(value: bytes, key: bytes | None) -> None:
    with pytest.raises(CreativeError):
        parse_record(record(value, key=key))
