"""The envelope: CloudEvents 1.0 in binary and structured mode, or a bare JSON object."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.errors import Code, CreativeError, Stage
from worker.intake import json_text, rescored
from worker.types import Headers, Record

SPEC_VERSION = "1.0"
SUBMITTED = "creative.submitted.v1"
MAX_TRACE_BYTES = 4096

_STRUCTURED = b"application/cloudevents+json"
_TRACE = ("traceparent", "tracestate", "ce_traceparent", "ce_tracestate")
_READ = frozenset({"content-type", "ce_specversion", "ce_type", "ce_subject", *_TRACE, *rescored.NAMES})


@dataclass(frozen=True, slots=True)
class Attributes:
    """The headers that are read. Of a header that is repeated the last one that is not null counts.

    `trace`: traceparent and tracestate under the names they came with; one over MAX_TRACE_BYTES is not passed on.
    """

    content_type: bytes | None
    specversion: bytes | None
    type: bytes | None
    subject: bytes | None
    trace: Headers
    rescored: rescored.Rescored | None = None


def bad_event(message: str) -> CreativeError:
    """The value, the envelope or a field isn't what the contract says; `message` never quotes content."""
    return CreativeError(Code.BAD_EVENT, Stage.EVENT, message)


def attributes(record: Record) -> Attributes:
    """Pick what is read out of any number of headers. Names count as received, `content-type` in any case."""
    found: dict[str, bytes] = {}
    for name, value in record.headers:
        if value is not None:
            if name in _READ:
                found[name] = value
            elif len(name) == 12 and name.lower() == "content-type":
                found["content-type"] = value
    return Attributes(
        content_type=found.get("content-type"),
        specversion=found.get("ce_specversion"),
        type=found.get("ce_type"),
        subject=found.get("ce_subject"),
        trace=tuple((name, found[name]) for name in _TRACE if name in found and len(found[name]) <= MAX_TRACE_BYTES),
        rescored=rescored.read(found.get(rescored.OF), found.get(rescored.LASTMOD)),
    )


def unwrap(value: bytes, head: Attributes) -> tuple[dict[str, Any], Headers]:
    """The event inside `value`, and the trace headers to pass on. Raises CreativeError `bad_event`."""
    media = None if head.content_type is None else head.content_type.split(b";", 1)[0].strip().lower()
    if media is not None and media.startswith(b"application/cloudevents") and media != _STRUCTURED:
        raise bad_event("content-type is a CloudEvents type other than application/cloudevents+json")
    event = _object(value, "the value")
    if media == _STRUCTURED or (media is None and in_envelope(event)):
        return opened(event), _with_extensions(event, head.trace)
    if head.specversion is not None or head.type is not None:
        if head.specversion != SPEC_VERSION.encode():
            raise bad_event(f"ce_specversion must be {SPEC_VERSION}")
        if head.type != SUBMITTED.encode():
            raise bad_event(f"ce_type must be {SUBMITTED}")
    return event, head.trace


def in_envelope(event: Mapping[str, Any]) -> bool:
    """Whether an object that came without a content type is a structured CloudEvent, not a bare event."""
    return "specversion" in event and ("data" in event or "data_base64" in event)


def opened(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """The event inside a structured CloudEvent. Raises CreativeError `bad_event` for what the contract refuses."""
    if envelope.get("specversion") != SPEC_VERSION:
        raise bad_event(f"specversion must be {SPEC_VERSION}")
    if envelope.get("type") != SUBMITTED:
        raise bad_event(f"type must be {SUBMITTED}")
    return data_of(envelope)


def data_of(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """The same, whatever the envelope's type and version are."""
    data, encoded = envelope.get("data"), envelope.get("data_base64")
    if data is not None and encoded is not None:
        raise bad_event("data and data_base64 exclude each other")
    if encoded is not None:
        return _object(_from_base64(encoded), "data_base64")
    if not isinstance(data, dict):
        raise bad_event("data must be an object")
    return data


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        value = json_text.loads(text)
    except ValueError as error:
        raise bad_event(f"{what} is {error}") from None
    if not isinstance(value, dict):
        raise bad_event(f"{what} must be a JSON object")
    return value


def _from_base64(encoded: object) -> bytes:
    if not isinstance(encoded, str):
        raise bad_event("data_base64 must be a string")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise bad_event("data_base64 is not base64") from None


def _with_extensions(event: dict[str, Any], trace: Headers) -> Headers:
    """Structured mode carries the extensions in the value; they go on as `ce_` headers, as binary mode writes them."""
    inside = tuple(
        (f"ce_{name}", value.encode())
        for name in ("traceparent", "tracestate")
        if isinstance(value := event.get(name), str) and len(value.encode()) <= MAX_TRACE_BYTES
    )
    names = {name for name, _ in inside}
    return tuple(header for header in trace if header[0] not in names) + inside
