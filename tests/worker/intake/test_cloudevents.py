"""The three forms of the envelope, and what is passed on of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from worker.errors import Code, CreativeError
from worker.intake.events import parse_record
from worker.types import Creative, Headers, Origin, Record

EVENT = {"ad": {"id": "cr-1", "display": {"banner": {"img": "https://x/y.jpg"}}}}
ENVELOPE = {"specversion": "1.0", "id": "1", "source": "/s", "type": "creative.submitted.v1"}
BINARY: Headers = (("ce_specversion", b"1.0"), ("ce_type", b"creative.submitted.v1"))
STRUCTURED: Headers = (("content-type", b"application/cloudevents+json"),)


def parse(value: Any, headers: Headers = ()) -> Creative:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    creative = parse_record(Record(Origin("t", 0, 0, 1), None, raw, headers))
    assert isinstance(creative, Creative)
    return creative


def refused(value: Any, headers: Headers = ()) -> str:
    with pytest.raises(CreativeError) as caught:
        parse(value, headers)
    assert caught.value.code is Code.BAD_EVENT
    return caught.value.message


@pytest.mark.parametrize(
    "content_type", [None, b"application/json", b"text/plain", b"application/octet-stream", b"\xff"]
)
def test_binary_mode_and_bare_objects(content_type: bytes | None) -> None:
    more: Headers = () if content_type is None else (("content-type", content_type),)
    assert parse(EVENT, BINARY + more).creative_id == "cr-1"
    assert parse(EVENT, more).creative_id == "cr-1"


@pytest.mark.parametrize(
    "headers",
    [
        (("ce_specversion", b"0.3"), ("ce_type", b"creative.submitted.v1")),
        (("ce_specversion", b"1.0"), ("ce_type", b"creative.submitted.v2")),
        (("ce_specversion", b"1.0"), ("ce_type", b"\xff")),
        (("ce_specversion", b"1.0"),),
        (("ce_type", b"creative.submitted.v1"),),
        (*BINARY, ("ce_type", b"another")),
    ],
)
def test_another_type_or_version_in_the_headers(headers: Headers) -> None:
    assert "ce_" in refused(EVENT, headers)


def test_the_last_of_a_repeated_header_counts() -> None:
    assert parse(EVENT, (("ce_type", b"another"), *BINARY, ("ce_type", None))).creative_id == "cr-1"


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/cloudevents+json",
        b"Application/CloudEvents+JSON; charset=utf-8",
        b"application/cloudevents+json;charset=utf-8",
        b" application/cloudevents+json ; x=y",
    ],
)
@pytest.mark.parametrize("name", ["content-type", "Content-Type"])
def test_structured_mode_by_content_type(name: str, content_type: bytes) -> None:
    assert parse({**ENVELOPE, "data": EVENT}, ((name, content_type),)).creative_id == "cr-1"


def test_the_content_type_decides_not_the_presence_of_headers() -> None:
    assert parse({**ENVELOPE, "data": EVENT}, (*STRUCTURED, ("ce_type", b"other"))).creative_id == "cr-1"
    assert "ad.id" in refused({**ENVELOPE, "data": EVENT}, (*BINARY, ("content-type", b"application/json")))
    assert refused(EVENT, BINARY + STRUCTURED) == "specversion must be 1.0"


def test_structured_mode_without_a_content_type() -> None:
    assert parse({**ENVELOPE, "data": EVENT}).creative_id == "cr-1"
    encoded = base64.b64encode(json.dumps(EVENT).encode()).decode()
    assert parse({**ENVELOPE, "data_base64": encoded}).creative_id == "cr-1"
    assert parse({**EVENT, "specversion": "9"}).creative_id == "cr-1"  # a bare object with an unknown field


@pytest.mark.parametrize(
    "content_type",
    [b"application/cloudevents", b"application/cloudevents-batch+json", b"application/cloudevents+avro;a=b"],
)
def test_other_cloudevents_types(content_type: bytes) -> None:
    assert "content-type" in refused({**ENVELOPE, "data": EVENT}, (("content-type", content_type),))


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "0.3"},
        {"specversion": 1.0},
        {"specversion": None},
        {"type": "creative.enriched.v1"},
        {"type": None},
        {"data": json.dumps(EVENT)},
        {"data": None},
        {"data": [EVENT]},
        {"data": 5},
        {"data_base64": "e30="},
    ],
)
def test_bad_envelopes(change: dict[str, Any]) -> None:
    refused({**ENVELOPE, "data": EVENT, **change}, STRUCTURED)


@pytest.mark.parametrize("encoded", ["e30=", "!!!", "", "W10=", "e30", 5, {"a": 1}, "ZQ==", "8J+Y"])
def test_bad_data_base64(encoded: Any) -> None:
    refused({**ENVELOPE, "data_base64": encoded}, STRUCTURED)


def test_depth_is_counted_inside_data_base64_too() -> None:
    deep = b'{"x": ' + b"[" * 1000 + b"]" * 1000 + b"}"
    assert "nested" in refused({**ENVELOPE, "data_base64": base64.b64encode(deep).decode()}, STRUCTURED)


def test_trace_context_goes_on_under_the_name_it_came_with() -> None:
    trace: Headers = (("traceparent", b"00-a"), ("tracestate", b"v=\xff"))
    assert parse(EVENT, trace).trace == trace
    extensions: Headers = (("ce_traceparent", b"00-b"), ("ce_tracestate", b"w=2"))
    assert parse(EVENT, BINARY + extensions).trace == extensions
    assert parse(EVENT, (("traceparent", b"old"), *trace)).trace == trace
    inside = {**ENVELOPE, "data": EVENT, "traceparent": "00-c", "tracestate": "x=3"}
    assert parse(inside, STRUCTURED).trace == (("ce_traceparent", b"00-c"), ("ce_tracestate", b"x=3"))


def test_a_monstrous_trace_is_not_passed_on() -> None:
    assert parse(EVENT, (("tracestate", b"x" * 5000), ("traceparent", b"00-a"))).trace == (("traceparent", b"00-a"),)
