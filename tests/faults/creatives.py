"""Input records for the scenarios: one image per colour, the three envelopes, withdrawals."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from PIL import Image

LASTMOD = 1_763_750_000_000
Pairs = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True)
class Outgoing:
    """A record to be published."""

    key: bytes | None
    value: bytes | None
    headers: Pairs = ()


def png(number: int) -> bytes:
    """A small image; another number is another colour."""
    colour = (number * 37 % 256, number * 101 % 256, number // 7 % 256)
    out = io.BytesIO()
    Image.new("RGB", (40, 32), colour).save(out, "PNG")
    return out.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    """The bytes as a `data:` URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def event(creative_id: str, image: str, *, lastmod: int | None = LASTMOD, **more: Any) -> dict[str, Any]:
    """An input event with `ocr_text` given, unless `more` says otherwise."""
    ad = {"id": creative_id, "display": {"banner": {"img": image}}} | more.pop("ad", {})
    if lastmod is not None:
        ad["lastmod"] = lastmod
    return {"ad": ad, "copy": {"headline": "Fresh bread"}, "ocr_text": "50% off"} | more


def bare(creative_id: str, number: int, **more: Any) -> Outgoing:
    """A bare JSON object, keyed by the creative."""
    return Outgoing(creative_id.encode(), orjson.dumps(event(creative_id, data_url(png(number)), **more)))


def with_image(creative_id: str, url: str, **more: Any) -> Outgoing:
    """A bare JSON object whose image is at `url`."""
    return Outgoing(creative_id.encode(), orjson.dumps(event(creative_id, url, **more)))


def binary(creative_id: str, number: int, extra: Pairs = (), **more: Any) -> Outgoing:
    """CloudEvents binary mode."""
    plain = bare(creative_id, number, **more)
    headers: Pairs = (
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", creative_id.encode()),
        ("ce_source", b"studio"),
        ("ce_type", b"creative.submitted.v1"),
    )
    return Outgoing(plain.key, plain.value, headers + extra)


def structured(creative_id: str, number: int, extra: Mapping[str, Any] | None = None, **more: Any) -> Outgoing:
    """CloudEvents structured mode."""
    envelope = {
        "specversion": "1.0",
        "id": creative_id,
        "source": "studio",
        "type": "creative.submitted.v1",
        "data": event(creative_id, data_url(png(number)), **more),
    } | dict(extra or {})
    return Outgoing(
        creative_id.encode(),
        orjson.dumps(envelope),
        (("content-type", b"Application/CloudEvents+JSON; charset=utf-8"),),
    )


def withdrawal(creative_id: str) -> Outgoing:
    """A null value under the creative's key."""
    return Outgoing(creative_id.encode(), None)
