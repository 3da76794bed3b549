"""Cut text to a number of UTF-8 bytes without breaking a character."""

from __future__ import annotations

MAX_OCR_BYTES = 8 * 1024


def cut_utf8(text: str, max_bytes: int) -> str:
    """The longest beginning of `text` whose UTF-8 form fits into `max_bytes`."""
    if len(text) * 4 <= max_bytes:
        return text
    encoded = text[:max_bytes].encode()
    return text if len(encoded) <= max_bytes and len(text) <= max_bytes else encoded[:max_bytes].decode(errors="ignore")
