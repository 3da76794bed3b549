import json
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from worker.schemas import ENRICHED_SCHEMA_ID
from worker.scoring import assemble, heatmap
from worker.types import HEADS, Copy, Creative, HeadError, OcrBox, OcrResult, Origin, ScoredCreative, Withdrawal

ORIGIN = Origin("creatives", 3, 981, 1_763_750_000_000)
PARTS: dict[str, Any] = {
    "attractiveness": {"value": 0.734, "bucket": "a7", "heatmap": heatmap.encode(np.ones((48, 48)))},
    "sentiment": {"value": 0.56, "label": "positive", "bucket": "pos"},
    "ctr": {"value": 0.0124, "bucket": "high", "relative": 1.31},
}
MODELS = {head: [{"name": head, "version": "1", "digest": "d" * 12}] for head in HEADS}
SCORED = ScoredCreative(
    creative=Creative(
        "cr-123",
        1_763_750_000_000,
        "https://cdn.example/c.jpg?token=secret",
        Copy("Discover the new season", "Free shipping on all orders", "Shop now", "Brand"),
        lang="en-US",
        attr=(21, 3, 21),
        trace=(("traceparent", b"00-a-b-01"),),
    ),
    content_sha256="c" * 64,
    image_sha256="1" * 64,
    phash="c3d1000000000000",
    heads=PARTS,
    cache=dict.fromkeys(HEADS, "miss"),
    models=MODELS,
    ocr=OcrResult("SHOP", 0.87654, (OcrBox("SHOP", 0.123456, 0.2, 0.3, 0.4),)),
    latency_ms={"fetch": 1.23456, "total": 212.0},
)


def event(**changes: Any) -> dict[str, Any]:
    return assemble.enriched_event(replace(SCORED, **changes), origin=ORIGIN, scored_at_ms=1_763_750_000_456)


def creative(**changes: Any) -> Creative:
    return replace(SCORED.creative, **changes)


def test_the_event_is_the_contracts() -> None:
    made = event()
    assert list(made) == [
        *("creative_id", "lastmod", "status", "content_sha256", "image_sha256", "phash", "scores", "text"),
        *("targeting", "ortb", "audit", "errors", "provenance"),
    ]
    assert made["status"] == "scored"
    assert made["scores"] == PARTS
    box = {"text": "SHOP", "x": 0.1235, "y": 0.2, "w": 0.3, "h": 0.4}
    assert made["text"] == {"ocr": "SHOP", "ocr_confidence": 0.8765, "boxes": [box], "language": "en"}
    assert made["targeting"].items() >= {"ads_attr": "a7", "ads_sent": "pos", "ads_ctr": "high"}.items()
    assert made["ortb"] == {
        "bid": {"crid": "cr-123", "attr": [3, 21], "ext": {"adscore": {"attr": "a7", "sent": "pos", "ctr": "high"}}}
    }
    assert made["audit"] == {"corr": {}, "feedback": []}
    assert made["errors"] == []
    assert made["provenance"] == {
        "models": MODELS,
        "cache": dict.fromkeys(HEADS, "miss"),
        "topic": "creatives",
        "partition": 3,
        "offset": 981,
        "scored_at": 1_763_750_000_456,
        "latency_ms": {"fetch": 1.23, "total": 212.0},
    }
    assert orjson.dumps(event()) == orjson.dumps(made)


def test_no_url_leaves_with_the_event() -> None:
    assert "cdn.example" not in json.dumps(event())


def test_without_kafka_there_is_no_place() -> None:
    made = assemble.enriched_event(SCORED, origin=None, scored_at_ms=0)
    assert not {"topic", "partition", "offset"} & set(made["provenance"])


def test_a_failed_head_is_null_and_has_no_bucket_anywhere() -> None:
    errors = (HeadError("sentiment", "engine_failed", "not a finite number"),)
    made = event(heads=PARTS | {"sentiment": None}, errors=errors)
    assert made["status"] == "partial"
    assert made["scores"]["sentiment"] is None
    assert "ads_sent" not in made["targeting"]
    assert made["ortb"]["bid"]["ext"]["adscore"] == {"attr": "a7", "ctr": "high"}
    assert made["errors"] == [{"head": "sentiment", "code": "engine_failed", "message": "not a finite number"}]


def test_ocr_that_failed_is_partial_with_a_null_text() -> None:
    made = event(ocr=None, errors=(HeadError("ocr", "ocr_timeout", "over 10 s"),))
    assert made["status"] == "partial"
    assert made["text"] == {"ocr": None, "ocr_confidence": None, "boxes": [], "language": "en"}


def test_given_text_has_no_confidence() -> None:
    assert event(ocr=OcrResult("given"))["text"]["ocr_confidence"] is None


@pytest.mark.parametrize(
    ("declared", "correction"),
    [("en", {}), ("en-US", {}), ("EN_gb", {}), ("de", {"lang": "en"}), (None, {"lang": "en"})],
)
def test_language_is_corrected_only_where_it_differs(declared: str | None, correction: dict[str, str]) -> None:
    assert event(creative=creative(lang=declared))["audit"]["corr"] == correction


def test_norwegian_by_either_name_is_norwegian() -> None:
    copy = Copy("Nå kan du kjøpe billettene våre på nettet")
    made = event(creative=creative(lang="nb", copy=copy))
    assert made["text"]["language"] == "no"
    assert made["audit"]["corr"] == {}


def test_language_of_the_image_counts_where_there_is_no_copy() -> None:
    made = event(creative=creative(copy=Copy(brand="Brand")), ocr=OcrResult("Jetzt kaufen und sparen"))
    assert made["text"]["language"] == "de"


def test_text_is_cut_between_characters() -> None:
    text = event(ocr=OcrResult("ä" * 8_000))["text"]["ocr"]
    assert text == "ä" * 4_096


@pytest.mark.parametrize("filler", ["\x01", "界", '"', "a"])
def test_the_event_stays_under_64_kib(filler: str) -> None:
    boxes = tuple(OcrBox(filler * 500, 1 / 3, 1 / 3, 1 / 3, 1 / 3) for _ in range(500))
    by_ocr = filler != "\x01"  # Tesseract gives no control characters; a given text has no boxes
    worst = event(
        creative=creative(creative_id='"' * 512, attr=tuple(range(10_000, 11_000))),
        ocr=OcrResult(filler * 9_000, 1 / 3, boxes if by_ocr else ()),
        errors=tuple(HeadError(head, "engine_failed", "x" * 5_000) for head in HEADS),
    )
    assert len(orjson.dumps(worst)) < 64 * 1024
    assert len(worst["text"]["boxes"]) <= 100
    assert len(worst["ortb"]["bid"]["attr"]) == 64


def test_headers_of_an_enriched_event() -> None:
    headers = assemble.enriched_headers(SCORED.creative, ORIGIN, source="tests", time_ms=1_763_750_000_456)
    assert headers == (
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", b"creatives:3:981"),
        ("ce_type", b"creative.enriched.v1"),
        ("ce_source", b"tests"),
        ("ce_subject", b"cr-123"),
        ("ce_time", b"2025-11-21T18:33:20.456Z"),
        ("ce_dataschema", ENRICHED_SCHEMA_ID.encode()),
        ("traceparent", b"00-a-b-01"),
    )


def test_headers_of_a_withdrawal() -> None:
    withdrawal = Withdrawal("cr-ü", (("ce_tracestate", b"a=b"),))
    headers = dict(assemble.withdrawn_headers(withdrawal, ORIGIN, source="tests", time_ms=0))
    assert headers["ce_type"] == b"creative.withdrawn.v1"
    assert headers["ce_subject"] == "cr-ü".encode()
    assert headers["adscore_source"] == b"creatives:3:981"
    assert headers["ce_time"] == b"1970-01-01T00:00:00.000Z"
    assert headers["ce_tracestate"] == b"a=b"
    assert "content-type" not in headers
