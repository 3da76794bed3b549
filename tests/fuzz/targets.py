"""What the fuzzer drives: each target takes any bytes, and fails on whatever would be a defect.

`events`: the first byte chooses headers and key, the rest is the record's value. `images`: a file. `manifests`: a
bundle's manifest.json. They need no fuzzer, so that what it found is replayed as a test (`test_found.py`).
"""

# ruff: noqa: PT017

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
from PIL import Image

from admodels.contract import preprocess
from admodels.contract.bundle import BundleError, bundle_digest, parse_manifest
from worker.delivery.dead_letters import dead_letter_record
from worker.errors import Code, CreativeError
from worker.intake import image_guard, json_text
from worker.intake.events import parse_record
from worker.intake.http_url import parse as parse_url
from worker.intake.image_guard import RefusedError
from worker.pipeline.job import canonical_copy, content_hash
from worker.types import Headers, Origin, Record, Withdrawal

TIMESTAMP = 1_763_750_000_000
_BINARY: Headers = (("ce_specversion", b"1.0"), ("ce_type", b"creative.submitted.v1"))
_STRUCTURED: Headers = (("content-type", b"application/cloudevents+json"),)
HEADERS: tuple[Headers, ...] = ((), _BINARY, _STRUCTURED, (*_BINARY, ("traceparent", None), ("\ud7ff", b"\xff")))
SHALLOW = 100
MAX_DECODED_PIXELS = 512 * 512


def events(data: bytes) -> None:
    """An event is a creative by the contract, or refused with a code and a message that holds nothing of it."""
    choice, value = data[0] if data else 0, data[1:]
    headers = HEADERS[choice % len(HEADERS)]
    record = Record(Origin("creatives", 0, 7, TIMESTAMP), value[:64] if choice & 64 else None, value, headers)
    if choice & 128:
        record = Record(record.origin, value, None, headers)
    _agrees_with_the_standard_library(value)
    try:
        creative = parse_record(record)
    except CreativeError as error:
        assert error.code in (Code.BAD_EVENT, Code.BAD_TEXT, Code.MISSING_IMAGE), error.code
        assert error.message.isprintable(), "what a sender wrote reached a message"
        assert len(error.message) < 300
        key, dead, _ = dead_letter_record(record, error, "w", 1 << 20)
        assert (key, dead) == (record.key, record.value)
        return
    assert 0 < len(creative.creative_id.encode()) <= 512
    if isinstance(creative, Withdrawal):
        return
    texts = canonical_copy(creative.copy)
    assert canonical_copy(type(creative.copy)(**texts)) == texts, "canonical text is its own canonical form"
    assert len(content_hash("0" * 64, texts, creative.ocr_text)) == 64
    assert 0 <= creative.lastmod <= 2**53 - 1
    assert orjson.loads(orjson.dumps([creative.creative_id, texts, creative.ocr_text, creative.lang]))
    if creative.image_url.startswith("http"):
        try:
            parse_url(creative.image_url)
        except ValueError as error:
            assert str(error).isprintable()


def _agrees_with_the_standard_library(value: bytes) -> None:
    """What is accepted means the same to Python's own reader; it accepts more than RFC 8259, so not the other way."""
    try:
        found = json_text.loads(value)
    except ValueError:
        return
    if json_text.depth(value) > SHALLOW:
        return  # what compares here is recursive
    other = json.loads(value.decode())
    assert _finite(found)
    assert found == other or _floats(found) == _floats(other)


def _finite(value: object) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not (isinstance(value, float) and not math.isfinite(value)) and all(_finite(item) for item in inside)


def _floats(value: object) -> object:
    """Whole numbers over 64 bits are doubles to orjson and exact to Python."""
    if isinstance(value, dict):
        return {name: _floats(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def images(data: bytes) -> None:
    """A file is refused by its header, or opens within the limits; small ones are decoded too."""
    try:
        kind = image_guard.sniff(data)
    except RefusedError as refused:
        assert refused.code == "unsupported_format"
        return
    try:
        image = image_guard.open_checked(data, kind)
    except RefusedError as refused:
        assert refused.code == "image_bomb"
        assert str(refused).isprintable()
        return
    except Exception:  # noqa: BLE001  # Pillow's many kinds: one verdict, in decode_child
        return
    width, height = image.size
    assert width * height <= image_guard.MAX_PIXELS
    assert max(width, height) <= image_guard.MAX_SIDES * max(1, min(width, height))
    if width * height > MAX_DECODED_PIXELS:
        return
    try:
        rgb = preprocess.to_rgb(image)
    except Exception:  # noqa: BLE001
        return
    assert rgb.mode == "RGB"
    assert preprocess.stretch(rgb, 32, 32).shape == (32, 32, 3)
    assert len(preprocess.phash(rgb)) == 16


def manifests(data: bytes) -> None:
    """A manifest is read into one meaning, or refused in one line."""
    try:
        manifest = parse_manifest(data, "fuzz/1")
    except BundleError as error:
        assert "bundle fuzz/1" in str(error)
        assert len(str(error)) < 1_000
        return
    assert len(bundle_digest(manifest)) == 64
    again = parse_manifest(manifest.model_dump_json().encode(), "fuzz/1")
    assert bundle_digest(again) == bundle_digest(manifest)


TARGETS: dict[str, Callable[[bytes], None]] = {"events": events, "images": images, "manifests": manifests}
HERE = Path(__file__).parent


def found(target: str) -> list[Path]:
    """What fuzzing has found, kept as files."""
    return sorted(path for path in (HERE / "found" / target).glob("*") if path.is_file())


def seeds(target: str, data_root: Path) -> Iterator[bytes]:
    """Where the fuzzer begins: the suites where they are, events and images of our own, the shipped manifests."""
    if target == "events":
        bodies = [path.read_bytes() for path in sorted((data_root / "json_suite").glob("test_*/*.json"))]
        bodies += [path.read_bytes() for path in sorted((HERE.parent.parent / "data").glob("*.jsonl"))][:1]
        yield from (
            bytes([index % 4]) + body for index, body in enumerate([*bodies, EVENT, STRUCTURED]) if len(body) < 65_536
        )
    elif target == "images":
        for kind in ("JPEG", "PNG", "GIF", "WEBP", "AVIF"):
            for mode in ("RGB", "L"):
                out = io.BytesIO()
                Image.linear_gradient("L").resize((24, 16)).convert(mode).save(out, kind)
                yield out.getvalue()
        files = sorted(path for path in (data_root / "hostile_images").glob("**/*") if path.is_file())
        yield from (path.read_bytes() for path in files if path.stat().st_size < 20_000)
    else:
        yield from (path.read_bytes() for path in sorted((HERE.parents[1] / "models").glob("*/*/manifest.json")))


EVENT = orjson.dumps(
    {
        "ad": {
            "id": "cr-1",
            "adomain": ["example.com"],
            "cat": ["1013"],
            "cattax": 8,
            "lang": "en",
            "attr": [1],
            "lastmod": TIMESTAMP,
            "display": {
                "w": 300,
                "banner": {"img": "https://cdn.example/c.jpg", "link": {"url": "https://example.com"}},
                "native": {"asset": [{"image": {"url": "https://a.b/c", "type": 3}}, {"title": {"text": "t"}}]},
            },
        },
        "copy": {
            "headline": "cafe\u0301",
            "body": "\u0645\u0631\u062d\u0628\u0627",
            "cta": "\U0001f469\u200d\U0001f680",
            "brand": "b",
        },
        "asset": {"sha256": "0" * 64, "bytes": 1},
        "ocr_text": "50% off",
    }
)
STRUCTURED = b'{"specversion":"1.0","type":"creative.submitted.v1","traceparent":"00-1-2-01","data":' + EVENT + b"}"
