"""Creatives from what a person has: images, folders of images, JSONL of events, or JSONL on standard input."""

from __future__ import annotations

import base64
import mimetypes
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from worker.errors import Code, CreativeError, Stage
from worker.intake.cloudevents import data_of, in_envelope
from worker.intake.events import parse_record
from worker.types import Creative, Origin, Record

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".gif", ".webp", ".avif"})
JSONL_SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True, slots=True)
class Item:
    """One creative as given.

    label: the path as given, `FILE:LINE` or `-:LINE`. event: the creative's JSON, local image inside as `data:`.
    structured: whether it brings its CloudEvents envelope along. Either `creative` or `error` is there; `creative_id`
    as far as it could be read.
    """

    label: str
    event: bytes
    creative_id: str | None
    creative: Creative | None = None
    error: CreativeError | None = None
    structured: bool = False


def items(paths: Iterable[str], *, copy: Mapping[str, str], lang: str | None, max_bytes: int) -> Iterator[Item]:
    """The creatives of `paths` in order.

    copy, lang: for images that come without an event. max_bytes: largest image; of a larger one so much is read that
    it is refused. What can't be read, and a folder without images, is an item with an error.
    """
    for path in paths:
        if path == "-":
            yield from _jsonl("-", sys.stdin.buffer, Path(), max_bytes)
        elif os.path.isdir(path):
            yield from _folder(path, copy, lang, max_bytes)
        elif Path(path).suffix.lower() in JSONL_SUFFIXES and os.path.exists(path):
            yield from _jsonl_file(path, max_bytes)
        else:
            yield _image(path, copy, lang, max_bytes)


def _folder(path: str, copy: Mapping[str, str], lang: str | None, max_bytes: int) -> Iterator[Item]:
    """The folder's image files by suffix, sorted by name; what lies deeper isn't searched."""
    try:
        names = sorted(entry.name for entry in os.scandir(path) if entry.is_file())
    except OSError as error:
        yield _unreadable(path, f"the folder can't be read: {error.strerror}")
        return
    images = [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    for name in images:
        yield _image(os.path.join(path, name), copy, lang, max_bytes)
    if not images:
        yield _unreadable(path, f"the folder holds no images ({' '.join(sorted(IMAGE_SUFFIXES))})")


def _jsonl_file(path: str, max_bytes: int) -> Iterator[Item]:
    try:
        lines = open(path, "rb")  # noqa: SIM115  closed below; only opening it may fail here
    except OSError as error:
        yield _unreadable(path, f"the file can't be read: {error.strerror}")
        return
    with lines:
        yield from _jsonl(path, lines, Path(path).parent, max_bytes)


def _unreadable(path: str, reason: str) -> Item:
    return Item(_shown(path), b"", None, error=CreativeError(Code.MISSING_IMAGE, Stage.FETCH, reason))


def _image(path: str, copy: Mapping[str, str], lang: str | None, max_bytes: int) -> Item:
    label = _shown(path)
    name = os.path.basename(label)
    try:
        url, modified_ms = _data_url(path, max_bytes)
    except CreativeError as error:
        return Item(label, b"", name, error=error)
    ad: dict[str, Any] = {"id": name, "lastmod": modified_ms, "display": {"banner": {"img": url}}}
    if lang:
        ad["lang"] = lang
    return _parsed(label, orjson.dumps({"ad": ad, "copy": dict(copy)}), name, modified_ms)


def _jsonl(name: str, lines: Iterable[bytes], folder: Path, max_bytes: int) -> Iterator[Item]:
    now_ms = time.time_ns() // 1_000_000
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text:
            label = f"{_shown(name)}:{number}"
            structured, creative_id = _told(text)
            item = replace(_parsed(label, text, creative_id, now_ms), structured=structured)
            yield _with_local_image(item, folder, max_bytes)


def _parsed(label: str, event: bytes, creative_id: str | None, timestamp_ms: int) -> Item:
    try:
        creative = parse_record(Record(Origin(label, 0, 0, timestamp_ms), None, event))
    except CreativeError as error:
        return Item(label, event, creative_id, error=error)
    if not isinstance(creative, Creative):
        raise TypeError(f"a record with a value is a creative, not {type(creative).__name__}")
    return Item(label, event, creative.creative_id, creative)


def _with_local_image(item: Item, folder: Path, max_bytes: int) -> Item:
    """A relative path in place of the image's URL is a file beside the JSONL: it goes into the event."""
    path = item.creative.image_url if item.creative else ""
    if not path or _SCHEME.match(path) or os.path.isabs(path):
        return item
    try:
        if os.path.normpath(path).split(os.sep)[0] == os.pardir:
            message = "a relative path in JSONL may not lead out of the file's folder"
            raise CreativeError(Code.FETCH_REFUSED, Stage.FETCH, message)
        url, _ = _data_url(str(folder / path), max_bytes)
        event = _encoded(with_image_url(orjson.loads(item.event), path, url))
    except CreativeError as error:
        return replace(item, event=b"", creative=None, error=error)
    return replace(item, event=event, creative=replace(item.creative, image_url=url))  # type: ignore[type-var]


def with_image_url(event: dict[str, Any], path: str, url: str) -> dict[str, Any]:
    """The event (bare or structured) with the image `path` replaced by `url` wherever it names the image. In place.

    Raises CreativeError where it can't be written again.
    """
    inside = data_of(event) if in_envelope(event) else event
    display = inside["ad"]["display"]
    assets = (display.get("native") or {}).get("asset") or []
    for holder, key in [(display.get("banner") or {}, "img"), *((each.get("image") or {}, "url") for each in assets)]:
        if holder.get(key) == path:
            holder[key] = url
    if inside is not event and event.get("data") is None:
        event["data_base64"] = base64.b64encode(_encoded(inside)).decode("ascii")
    return event


def _encoded(event: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(event)
    except orjson.JSONEncodeError:  # it reads four times as deep as it writes
        message = "nested over 254 levels: no file's image can be put into it; give the image's URL, or as data:"
        raise CreativeError(Code.BAD_EVENT, Stage.EVENT, message) from None


def _data_url(path: str, max_bytes: int) -> tuple[str, int]:
    """The file as a `data:` URL, and when it was modified (ms). One byte over the limit is enough to be refused."""
    try:
        with open(path, "rb") as file:
            modified_ms = max(0, os.fstat(file.fileno()).st_mtime_ns // 1_000_000)
            data = file.read(max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise CreativeError(Code.MISSING_IMAGE, Stage.FETCH, "there is no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise CreativeError(Code.FETCH_FAILED, Stage.FETCH, f"the file can't be read: {reason}") from None
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}", modified_ms


def _told(event: bytes) -> tuple[bool, str | None]:
    """Whether the event has an envelope, and its creative id as far as one can be read: it may be bad in any way."""
    structured = False
    try:
        value = orjson.loads(event)
        structured = in_envelope(value)
        creative_id = (data_of(value) if structured else value)["ad"]["id"]
    except (CreativeError, ValueError, KeyError, TypeError):
        return structured, None
    return structured, creative_id if isinstance(creative_id, str) else None


def _shown(path: str) -> str:
    """A path as text that can be encoded, whatever bytes the file system has."""
    return os.fsencode(path).decode(errors="replace")
