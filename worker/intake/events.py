"""A Kafka record becomes a creative to score, or a withdrawal; whatever isn't one by the contract is refused here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from worker.errors import Code, CreativeError, Stage
from worker.intake import event_fields
from worker.intake.cloudevents import attributes, bad_event, unwrap
from worker.intake.cut import MAX_OCR_BYTES, cut_utf8
from worker.types import Asset, Copy, Creative, Headers, Record, Withdrawal

MAX_ID_BYTES = 512
MAX_COPY_CHARACTERS = 8_000
MAX_DECLARED_ATTR = 64
_DAY_MS = 24 * 60 * 60 * 1000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MAIN_IMAGE = 3
_DATA_FIELDS = {1: "brand", 2: "body", 12: "cta"}


def parse_record(record: Record) -> Creative | Withdrawal:
    """Read one input record. Pure: no clock, no I/O.

    Raises CreativeError `bad_event` (stage event), `missing_image` (stage event) or `bad_text` (stage text), in this
    order where an event is bad in several ways; messages name fields, never their content.
    """
    head = attributes(record)
    if record.value is None:
        return Withdrawal(_withdrawn_id(record.key, head.subject), head.trace)
    event, trace = unwrap(record.value, head)
    creative = _creative(event, trace, record.origin.timestamp_ms)
    again = head.rescored
    if again is None:
        return creative
    lastmod = effective_lastmod(again.lastmod, record.origin.timestamp_ms)
    return replace(creative, lastmod=lastmod, repeats=again.of)


def valid_id(creative_id: str) -> bool:
    """Whether this may be a creative's id: 1 to 512 bytes of UTF-8 without control characters."""
    return 0 < len(creative_id.encode()) <= MAX_ID_BYTES and not _CONTROL.search(creative_id)


def effective_lastmod(lastmod: int | None, timestamp_ms: int) -> int:
    """The milliseconds that order revisions: `lastmod`, or the record's time where it is absent or a day ahead of it.

    A record without a time (Kafka's -1) bounds nothing, and gives 0.
    """
    recorded = min(timestamp_ms, event_fields.MAX_WHOLE)
    if lastmod is None:
        return max(recorded, 0)
    return recorded if 0 <= recorded < lastmod - _DAY_MS else lastmod


def _withdrawn_id(key: bytes | None, subject: bytes | None) -> str:
    named, where = (key, "the key") if key is not None else (subject, "ce_subject")
    if named is None:
        raise bad_event("a null value withdraws a creative, but neither the key nor ce_subject names one")
    try:
        creative_id = named.decode()
    except UnicodeDecodeError:
        raise bad_event(f"{where} of a withdrawal is not UTF-8") from None
    if not valid_id(creative_id):
        raise bad_event(f"{where} of a withdrawal must be 1 to {MAX_ID_BYTES} bytes without control characters")
    return creative_id


def _creative(event: dict[str, Any], trace: Headers, timestamp_ms: int) -> Creative:
    try:
        event_fields.check(event)
    except ValueError as error:
        raise bad_event(str(error)) from None
    ad = event.get("ad") or {}
    creative_id = ad.get("id")
    if creative_id is None:
        raise bad_event("ad.id is missing")
    if not valid_id(creative_id):
        raise bad_event(f"ad.id must be 1 to {MAX_ID_BYTES} bytes of UTF-8 without control characters")
    lastmod = ad.get("lastmod")
    if lastmod is not None and lastmod < 0:
        raise bad_event("ad.lastmod must be a whole number of milliseconds from 0 to 2^53 - 1")
    display = ad.get("display") or {}
    assets = (display.get("native") or {}).get("asset") or []
    asset = event.get("asset") or {}
    sha256, size, ocr_text = asset.get("sha256"), asset.get("bytes"), event.get("ocr_text")
    return Creative(
        creative_id=creative_id,
        lastmod=effective_lastmod(None if lastmod is None else int(lastmod), timestamp_ms),
        image_url=_image_url(display, assets),
        copy=_copy(event.get("copy") or {}, assets),
        asset=Asset(None if sha256 is None else sha256.lower(), None if size is None else int(size)),
        ocr_text=None if ocr_text is None else cut_utf8(ocr_text, MAX_OCR_BYTES),
        lang=ad.get("lang"),
        attr=tuple(int(value) for value in (ad.get("attr") or ())[:MAX_DECLARED_ATTR]),
        trace=trace,
        written=max(0, timestamp_ms),
    )


def _image_url(display: dict[str, Any], assets: list[dict[str, Any]]) -> str:
    url = (display.get("banner") or {}).get("img")
    if url is None:
        images = [image for asset in assets if (image := asset.get("image")) and image.get("url") is not None]
        main = [image for image in images if image.get("type") == _MAIN_IMAGE]
        main += [image for image in images if image.get("type") is None]
        if not main:
            message = "no image: ad.display.banner.img is absent, and no native asset has a main image"
            raise CreativeError(Code.MISSING_IMAGE, Stage.EVENT, message)
        url = main[0]["url"]
    if not url.strip():
        raise CreativeError(Code.MISSING_IMAGE, Stage.EVENT, "the image's URL is empty")
    return url


def _copy(given: dict[str, Any], assets: list[dict[str, Any]]) -> Copy:
    """`copy` wins over the native assets field by field; of several assets for one field the first counts."""
    fields: dict[str, str] = {}
    for name in ("headline", "body", "cta", "brand"):
        if given.get(name) is not None:
            fields[name] = given[name]
    for name, text in _native_copy(assets):
        fields.setdefault(name, text)
    for name, text in fields.items():
        if len(text) > MAX_COPY_CHARACTERS:
            message = f"{name} has {len(text)} characters; at most {MAX_COPY_CHARACTERS} are read"
            raise CreativeError(Code.BAD_TEXT, Stage.TEXT, message)
    return Copy(**fields)


def _native_copy(assets: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for asset in assets:
        title, data = asset.get("title") or {}, asset.get("data") or {}
        if title.get("text") is not None:
            yield "headline", title["text"]
        name = _DATA_FIELDS.get(data.get("type"))  # type: ignore[arg-type]  # None is a key that is not there
        if name is not None and data.get("value") is not None:
            yield name, data["value"]
