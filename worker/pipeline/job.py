"""One creative on its way through scoring: what is known of it so far, and who waits for it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from admodels.contract.bundle import canonical_json
from admodels.contract.text import canonical
from worker.errors import CreativeError
from worker.scoring.feeds import Tokens
from worker.tracing import NO_TRACE, Trace
from worker.types import (
    Copy,
    Creative,
    DecodedImage,
    HeadError,
    ImageBytes,
    Material,
    OcrBox,
    OcrResult,
    Part,
    ScoredCreative,
)

Outcome = ScoredCreative | CreativeError

CONTENT = "content"
"""Name of the cache entry beside the heads: what was read from the image itself."""


@dataclass
class Job:
    """Filled in stage by stage; owned by one thread at a time, handed over through queues.

    `followers` are jobs with the same content that arrived meanwhile: they get this one's result.
    """

    creative: Creative
    on_done: Callable[[Outcome], None]
    before_decoding: Callable[[], None] = lambda: None
    trace: Trace = NO_TRACE
    started: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    image: ImageBytes | None = None
    asked_ms: int | None = None
    """When the download of its image began; None where none was needed."""
    texts: dict[str, str] = field(default_factory=dict)
    content: str = ""
    results: dict[str, str] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)
    wanted: frozenset[str] = frozenset()
    phash: str | None = None
    ocr: OcrResult | None = None
    ocr_failed: HeadError | None = None
    decoded: DecodedImage | None = None
    tokens: Mapping[str, Tokens] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    attempts: int = 0
    latency_ms: dict[str, float] = field(default_factory=dict)
    followers: list[Job] = field(default_factory=list)
    outcome: Outcome | None = None

    def cancel(self) -> None:
        """Nobody waits for it any more: it is dropped before its next stage, unless it has followers."""
        self.cancelled = True

    @property
    def needs_ocr(self) -> bool:
        """The text in the image is not known and not given."""
        return self.ocr is None and self.ocr_failed is None and self.creative.ocr_text is None

    def spend(self, stage: str, seconds: float) -> None:
        """Note a stage's time."""
        self.latency_ms[stage] = round(self.latency_ms.get(stage, 0.0) + seconds * 1000, 3)


def canonical_copy(copy: Copy) -> dict[str, str]:
    """The copy as models read it and as the content hash covers it: NFC, without empty fields."""
    fields = {"headline": copy.headline, "body": copy.body, "cta": copy.cta, "brand": copy.brand}
    made = {name: canonical(text) for name, text in fields.items() if text}
    return {name: text for name, text in made.items() if text}


def content_hash(image_sha256: str, texts: Mapping[str, str], ocr_text: str | None) -> str:
    """sha256 (hex) of image bytes, canonical copy and a given OCR text: equal content is scored once."""
    return hashlib.sha256(canonical_json([image_sha256, dict(texts), ocr_text])).hexdigest()


def content_part(phash: str, ocr: OcrResult) -> Part:
    """The `content` cache entry."""
    boxes = [[box.text, box.x, box.y, box.w, box.h] for box in ocr.boxes]
    return {"phash": phash, "text": {"ocr": ocr.text, "confidence": ocr.confidence, "boxes": boxes}}


def scored(
    job: Job, asker: Job, results: Mapping[str, str], models: Mapping[str, list[dict[str, Any]]]
) -> ScoredCreative:
    """The outcome of `job` as `asker` gets it: itself, or a follower with the same content and its own event."""
    assert job.image is not None
    assert job.phash is not None
    given = asker.creative.ocr_text
    errors = [HeadError(head, "engine_failed", message) for head, message in sorted(job.errors.items())]
    return ScoredCreative(
        creative=asker.creative,
        content_sha256=job.content,
        image_sha256=job.image.sha256,
        phash=job.phash,
        heads={head: job.parts.get(head) for head in models},
        cache=results,
        models=models,
        ocr=OcrResult(given) if given is not None else job.ocr,
        errors=tuple(errors if job.ocr_failed is None else [*errors, job.ocr_failed]),
        latency_ms={**asker.latency_ms, "total": round((time.monotonic() - asker.started) * 1000, 3)},
    )


def material(job: Job) -> Material:
    """What candidate models need of a job that is about to let go of its pixels and bytes."""
    assert job.image is not None
    # Copies: the decoder's answer holds the picture for OCR too, and lives as long as any view of it.
    pixels = {size: values.copy() for size, values in job.decoded.pixels.items()} if job.decoded else {}
    return Material(b"" if pixels else job.image.data, pixels, job.texts)


def read_content_part(part: Part) -> tuple[str, OcrResult] | None:
    """The inverse of `content_part`; None when the entry isn't one."""
    try:
        text = part["text"]
        boxes = tuple(OcrBox(str(word), float(x), float(y), float(w), float(h)) for word, x, y, w, h in text["boxes"])
        confidence = None if text["confidence"] is None else float(text["confidence"])
        return str(part["phash"]), OcrResult(str(text["ocr"]), confidence, boxes)
    except (KeyError, TypeError, ValueError):
        return None
