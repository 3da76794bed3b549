"""The values that travel through the worker. All are frozen: a stage takes one value and returns the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Headers = tuple[tuple[str, bytes | None], ...]
"""Kafka headers in the order received; a value may be null."""

Part = Mapping[str, Any]
"""One head's part of `scores`, as it stands in the event."""

Pixels = Mapping[tuple[int, int], NDArray[np.uint8]]
"""(height, width) → uint8 H×W×3 RGB."""

HEADS = ("attractiveness", "sentiment", "ctr")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record came from. It travels with the item, so that one item can be dead-lettered after batching."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    def is_before(self, other: Place) -> bool:
        """Whether `other` came after it; False where their order isn't known (another topic or partition)."""
        return (self.topic, self.partition) == (other.topic, other.partition) and self.offset < other.offset


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record as received. `value` None is a tombstone; b"" is an empty value."""

    origin: Origin
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """The creative's copy, each field as received (not normalised); None where absent."""

    headline: str | None = None
    body: str | None = None
    cta: str | None = None
    brand: str | None = None


@dataclass(frozen=True, slots=True)
class Asset:
    """What the sender announced of the image bytes; `sha256` in lower case."""

    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Creative:
    """A valid `creative.submitted.v1` event, reduced to what scoring needs."""

    creative_id: str
    lastmod: int
    """Milliseconds; the value that orders revisions (already clamped against the record's timestamp)."""
    image_url: str
    copy: Copy = Copy()
    asset: Asset = Asset()
    ocr_text: str | None = None
    """Given OCR text, cut at 8 KiB of UTF-8; None where OCR has to read the image."""
    lang: str | None = None
    """`ad.lang` as declared."""
    attr: tuple[int, ...] = ()
    """Declared AdCOM creative attributes (`ad.attr`), at most 64."""
    trace: Headers = ()
    """`traceparent`/`tracestate` headers to pass on unchanged, under the names they came with."""
    repeats: Place | None = None
    """The record that this one repeats so that it is scored again; it counts only if nothing came after that one."""
    written: int = 0
    """Milliseconds; the record's own time, 0 where it has none."""


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A record with a null value: the creative is withdrawn."""

    creative_id: str
    trace: Headers = ()


@dataclass(frozen=True, slots=True)
class ImageBytes:
    """Fetched image bytes, not yet decoded. `sha256` is lower-case hex of `data`."""

    data: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """What the decoder's child hands back of one image.

    width, height: of the original after EXIF rotation.
    pixels: per requested square or rectangle (height, width) → uint8 H×W×3 RGB, stretched, alpha on white.
    ocr: uint8 H×W grey image for OCR, or None when it was not asked for.
    phash: 64-bit perceptual hash as 16 hex digits.
    """

    width: int
    height: int
    format: str
    phash: str
    pixels: Mapping[tuple[int, int], NDArray[np.uint8]]
    ocr: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class OcrBox:
    """One recognised word; x, y, w, h are fractions of the image after EXIF rotation, from the top left."""

    text: str
    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True, slots=True)
class OcrResult:
    """OCR's reading of one image. `confidence` in [0, 1], None where it does not apply (given text)."""

    text: str
    confidence: float | None = None
    boxes: tuple[OcrBox, ...] = ()


@dataclass(frozen=True, slots=True)
class HeadError:
    """Why a head (or `ocr`) is missing from a partial event; `code`: `engine_failed`, `ocr_failed` or `ocr_timeout`."""

    head: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Material:
    """What candidate models need to score a creative again: its pixels, or the image where it wasn't decoded."""

    image: bytes
    pixels: Pixels
    texts: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return len(self.image) + sum(pixels.nbytes for pixels in self.pixels.values())


@dataclass(frozen=True, slots=True)
class ScoredCreative:
    """Everything that `scoring.assemble` needs to write the enriched event.

    heads: per head the part of `scores` as it stands in the event (JSON-ready), or None when the head failed.
    cache: per head `hit`, `miss` or `off`.
    models: per head the bundles behind it, as in `provenance.models`.
    latency_ms: per stage.
    """

    creative: Creative
    content_sha256: str
    image_sha256: str
    phash: str
    heads: Mapping[str, Mapping[str, Any] | None]
    cache: Mapping[str, str]
    models: Mapping[str, list[dict[str, Any]]]
    ocr: OcrResult | None
    errors: tuple[HeadError, ...] = ()
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    material: Material | None = None
    """Kept where candidate models score a copy of the traffic."""

    def traced(self, trace: Headers) -> ScoredCreative:
        """With other trace headers to pass on."""
        return replace(self, creative=replace(self.creative, trace=trace))
