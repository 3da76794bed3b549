"""Dead letters: the record as received, and headers that say what was wrong with it."""

from __future__ import annotations

from worker.errors import CreativeError
from worker.types import Headers, Record

PREFIX = "adscore_dlq_"
MAX_MESSAGE_BYTES = 1_000
# What the broker counts beyond key, value and headers: a batch's header and the record's own varints.
_BATCH_OVERHEAD = 61 + 5 * 5
_HEADER_OVERHEAD = 2 * 5


def dead_letter_record(
    record: Record, error: CreativeError, worker: str, max_bytes: int
) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of the dead letter of `record`.

    worker: the worker's name. max_bytes: `max.message.bytes` of the dead letters' topic; what would be larger gets an
    empty value and `adscore_dlq_truncated` with the value's size. Headers received are kept as they are, but for
    `adscore_dlq_` ones, which belong to an earlier refusal.
    """
    received = tuple((name, value) for name, value in record.headers if not name.startswith(PREFIX))
    ours = _headers(record, error, worker)
    if fits(record.key, record.value, (*received, *ours), max_bytes):
        return record.key, record.value, (*received, *ours)
    ours += ((PREFIX + "truncated", str(len(record.value or b"")).encode()),)
    if not fits(record.key, b"", (*received, *ours), max_bytes):
        received = ()  # the headers alone are too large: what is left says where the record lies
    return record.key, b"", (*received, *ours)


def fits(key: bytes | None, value: bytes | None, headers: Headers, max_bytes: int) -> bool:
    """Whether a record, alone in its batch and uncompressed, is within `max.message.bytes`."""
    size = _BATCH_OVERHEAD + len(key or b"") + len(value or b"")
    size += sum(_HEADER_OVERHEAD + len(name.encode()) + len(content or b"") for name, content in headers)
    return size <= max_bytes


def _headers(record: Record, error: CreativeError, worker: str) -> Headers:
    origin = record.origin
    values = {
        "code": str(error.code),
        "message": error.message,
        "stage": str(error.stage),
        "topic": origin.topic,
        "partition": str(origin.partition),
        "offset": str(origin.offset),
        "timestamp": str(origin.timestamp_ms),
        "attempts": str(max(1, error.attempts)),
        "retryable": "true" if error.retryable else "false",
        "worker": worker,
    }
    return tuple((PREFIX + name, _cut(value)) for name, value in values.items())


def _cut(text: str) -> bytes:
    """At most MAX_MESSAGE_BYTES of UTF-8, whole characters."""
    return text.encode(errors="replace")[:MAX_MESSAGE_BYTES].decode(errors="ignore").encode()
