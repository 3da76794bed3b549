"""From a scored creative to the enriched event and its headers, exactly as other programs read them.

An event stays under 64 KiB whatever the creative is: every part that grows with input has its cap here or where it is
made. It never holds URLs, prices or fields that the input had and this project doesn't know.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from worker.schemas import ENRICHED_SCHEMA_ID
from worker.scoring import aspects, language, targeting
from worker.types import Creative, Headers, OcrResult, Origin, ScoredCreative, Withdrawal

ENRICHED_TYPE = "creative.enriched.v1"
SHADOW_TYPE = "creative.shadow.v1"
WITHDRAWN_TYPE = "creative.withdrawn.v1"
MAX_OCR_BYTES = 8 * 1024
MAX_BOXES = 100
MAX_BOX_BYTES = 64
MAX_DECLARED = 64
MAX_ERROR_CHARACTERS = 300
_SAME_LANGUAGE = {"nb": "no", "nn": "no", "iw": "he", "in": "id"}
"""Declared codes that mean a language which the identifier names otherwise."""


def enriched_event(scored: ScoredCreative, *, origin: Origin | None, scored_at_ms: int) -> dict[str, Any]:
    """The value of the output record, JSON-ready; the same input gives the same bytes.

    origin: where the creative came from; None without Kafka, then `provenance` has no topic, partition and offset.
    """
    creative = scored.creative
    spoken = _language(creative, scored.ocr)
    return {
        "creative_id": creative.creative_id,
        "lastmod": creative.lastmod,
        "status": "partial" if scored.errors else "scored",
        "content_sha256": scored.content_sha256,
        "image_sha256": scored.image_sha256,
        "phash": scored.phash,
        "scores": _scores(scored.heads, creative),
        "text": _text(scored.ocr, spoken),
        "targeting": targeting.key_values(scored.heads, scored.models),
        "ortb": {"bid": _bid(creative, scored.heads)},
        "audit": {"corr": _corrections(creative, spoken), "feedback": []},
        "errors": [
            {"head": error.head, "code": error.code, "message": error.message[:MAX_ERROR_CHARACTERS]}
            for error in scored.errors
        ],
        "provenance": _provenance(scored, origin, scored_at_ms),
    }


def enriched_headers(
    creative: Creative, origin: Origin, *, source: str, time_ms: int, kind: str = ENRICHED_TYPE
) -> Headers:
    """Headers of an enriched event (CloudEvents, binary mode).

    source: the setting `event.source`. time_ms: when it was scored. kind: `ce_type`; a candidate's is another.
    """
    return (
        ("content-type", b"application/json"),
        *_event_headers(kind, creative.creative_id, origin, source, time_ms),
        ("ce_dataschema", ENRICHED_SCHEMA_ID.encode()),
        *creative.trace,
    )


def withdrawn_headers(withdrawal: Withdrawal, origin: Origin, *, source: str, time_ms: int) -> Headers:
    """Headers of the null value that withdraws a creative from the output topic."""
    return (
        *_event_headers(WITHDRAWN_TYPE, withdrawal.creative_id, origin, source, time_ms),
        ("adscore_source", str(origin).encode()),
        *withdrawal.trace,
    )


def _event_headers(kind: str, creative_id: str, origin: Origin, source: str, time_ms: int) -> Headers:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return (
        ("ce_specversion", b"1.0"),
        ("ce_id", str(origin).encode()),
        ("ce_type", kind.encode()),
        ("ce_source", source.encode()),
        ("ce_subject", creative_id.encode()),
        ("ce_time", moment.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()),
    )


def _scores(heads: Mapping[str, Mapping[str, Any] | None], creative: Creative) -> dict[str, Any]:
    """The heads' parts; aspects as they stand in this creative's copy."""
    scores = dict(heads)
    sentiment = scores.get("sentiment")
    if sentiment is not None and "aspects" in sentiment:
        scores["sentiment"] = {**sentiment, "aspects": aspects.quoted(sentiment["aspects"], creative.copy)}
    return scores


def _text(ocr: OcrResult | None, spoken: str | None) -> dict[str, Any]:
    boxes = ocr.boxes[:MAX_BOXES] if ocr else ()
    return {
        "ocr": cut(ocr.text, MAX_OCR_BYTES) if ocr else None,
        "ocr_confidence": round(ocr.confidence, 4) if ocr and ocr.confidence is not None else None,
        "boxes": [
            {
                "text": cut(box.text, MAX_BOX_BYTES),
                "x": round(box.x, 4),
                "y": round(box.y, 4),
                "w": round(box.w, 4),
                "h": round(box.h, 4),
            }
            for box in boxes
        ],
        "language": spoken,
    }


def cut(text: str, limit: int) -> str:
    """`text` cut to at most `limit` bytes of UTF-8, never inside a character."""
    if len(text) * 4 <= limit:
        return text
    return text.encode()[:limit].decode(errors="ignore")


def _language(creative: Creative, ocr: OcrResult | None) -> str | None:
    """By the copy (a brand says nothing of language); by what the image says where the copy leaves it open."""
    copy = creative.copy
    written = " ".join(part for part in (copy.headline, copy.body, copy.cta) if part)
    return language.identify(written) or (language.identify(ocr.text) if ocr else None)


def _bid(creative: Creative, heads: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    short = {targeting.SHORT[head]: bucket for head, bucket in targeting.buckets(heads).items()}
    declared = sorted(set(creative.attr))[:MAX_DECLARED]
    return {"crid": creative.creative_id, "attr": declared, "ext": {"adscore": short}}


def _corrections(creative: Creative, spoken: str | None) -> dict[str, Any]:
    """AdCOM's `corr`: what was seen and not, or otherwise, declared. No model here sees creative attributes yet."""
    declared = (creative.lang or "").replace("_", "-").partition("-")[0].lower()
    declared = _SAME_LANGUAGE.get(declared, declared)
    return {"lang": spoken} if spoken and spoken != declared else {}


def _provenance(scored: ScoredCreative, origin: Origin | None, scored_at_ms: int) -> dict[str, Any]:
    place = {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset} if origin else {}
    return {
        "models": dict(scored.models),
        "cache": dict(scored.cache),
        **place,
        "scored_at": scored_at_ms,
        "latency_ms": {stage: round(value, 2) for stage, value in scored.latency_ms.items()},
    }
