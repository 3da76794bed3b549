"""Images that come inside the event: `data:` URLs with base64."""

from __future__ import annotations

import binascii
from urllib.parse import unquote_to_bytes

import pybase64

from worker.errors import Code, CreativeError, Stage

_WHITESPACE = b"\t\n\x0c\r "


def read(url: str, max_bytes: int) -> bytes:
    """The bytes inside a `data:` URL. Raises CreativeError `bad_image` or `too_large` at stage fetch.

    As browsers read it: percent-encoding and whitespace are fine, the padding may be absent.
    """
    media, comma, payload = url[len("data:") :].partition(",")
    if not comma or not media.rstrip().lower().endswith(";base64"):
        raise _bad("the data: URL is not base64 (data:image/png;base64,...)")
    if len(payload) > 4 * max_bytes + 64:  # even with every character percent-encoded: over the cap
        raise _too_large(max_bytes)
    encoded = unquote_to_bytes(payload) if "%" in payload else payload.encode()
    try:
        # As nearly all come: looking for whitespace first would cost more than decoding.
        if len(encoded) * 3 // 4 <= max_bytes:
            return pybase64.b64decode(encoded, validate=True)
    except binascii.Error:
        pass
    encoded = encoded.translate(None, _WHITESPACE).rstrip(b"=")
    if len(encoded) * 3 // 4 > max_bytes:
        raise _too_large(max_bytes)
    try:  # takes what browsers take, unlike pybase64: bits that no byte needs may be set
        return binascii.a2b_base64(encoded + b"=" * (-len(encoded) % 4), strict_mode=True)
    except binascii.Error:
        raise _bad("the data: URL's base64 does not decode") from None


def _bad(message: str) -> CreativeError:
    return CreativeError(Code.BAD_IMAGE, Stage.FETCH, message)


def _too_large(max_bytes: int) -> CreativeError:
    return CreativeError(Code.TOO_LARGE, Stage.FETCH, f"over {max_bytes} bytes (ADSCORE_FETCH__MAX_BYTES)")
