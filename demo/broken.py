"""Creatives that nobody can score: some of every kind that a sender can make, by the code that they must get."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from worker.errors import Code

Event = dict[str, Any]
# A decoder that dies, an engine that fails and an event too large to publish can't be sent from outside.
UNSENDABLE = {Code.DECODE_CRASHED, Code.ENGINE_FAILED, Code.PUBLISH_TOO_LARGE}


def event(creative_id: str, image: str | None, **rest: Any) -> Event:
    """A `creative.submitted.v1` event with a banner image."""
    display = {} if image is None else {"banner": {"img": image}}
    return {"ad": {"id": creative_id, "display": display}} | rest


def broken(good: bytes, web: str, max_bytes: int) -> Iterator[tuple[Code, Event]]:
    """(expected code, event). good: bytes of an image; web: the demonstration's server; max_bytes: the fetch limit."""
    image = data_url(good)
    yield Code.BAD_EVENT, event("bad-event-lastmod", image) | {"ad": _with_lastmod("bad-event-lastmod", image)}
    yield Code.BAD_EVENT, event("bad-event-copy", image, copy={"headline": ["not", "text"]})
    yield Code.MISSING_IMAGE, event("missing-image", None)
    yield Code.MISSING_IMAGE, event("missing-image-empty", "")
    yield Code.BAD_TEXT, event("bad-text", image, copy={"headline": "far too much to say " * 500})
    yield Code.FETCH_REFUSED, event("fetch-refused-host", "https://not-listed.example/creative.jpg")
    yield Code.FETCH_REFUSED, event("fetch-refused-metadata", "http://169.254.169.254/latest/meta-data")
    yield Code.FETCH_FAILED, event("fetch-failed", f"{web}/broken")
    yield Code.FETCH_TIMEOUT, event("fetch-timeout", f"{web}/slow")
    yield Code.TOO_LARGE, event("too-large", data_url(good + bytes(max_bytes)))
    yield Code.DIGEST_MISMATCH, event("digest-mismatch", image, asset={"sha256": "0" * 64})
    yield Code.DIGEST_MISMATCH, event("digest-mismatch-bytes", image, asset={"bytes": len(good) + 1})
    yield Code.UNSUPPORTED_FORMAT, event("unsupported-svg", data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>"))
    yield Code.UNSUPPORTED_FORMAT, event("unsupported-empty", data_url(b""))
    yield Code.BAD_IMAGE, event("bad-image-cut", data_url(b"\x89PNG\r\n\x1a\n" + bytes(64)))
    yield Code.BAD_IMAGE, event("bad-image-base64", "data:image/png;base64,*not*base64*")
    yield Code.IMAGE_BOMB, event("image-bomb-pixels", data_url(_png(30_000, 30_000)))
    yield Code.IMAGE_BOMB, event("image-bomb-sides", data_url(_png(2_000, 4)))


def data_url(data: bytes) -> str:
    """Bytes as a `data:` URL."""
    return f"data:application/octet-stream;base64,{base64.b64encode(data).decode('ascii')}"


def _with_lastmod(creative_id: str, image: str) -> Event:
    return {"id": creative_id, "lastmod": "yesterday", "display": {"banner": {"img": image}}}


def _png(width: int, height: int) -> bytes:
    """A PNG whose header promises width×height grey pixels, and which ends there."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
