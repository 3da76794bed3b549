"""Bodies that come compressed although nobody asked for it: some stores send what they were given."""

from __future__ import annotations

import http.client
import zlib

CODINGS = ("gzip", "x-gzip", "deflate")


def inflate(body: bytes, max_bytes: int) -> bytes | None:
    """The inflated body, or None where it is over `max_bytes`; never more memory than that.

    Raises zlib.error where it is not gzip or zlib, http.client.IncompleteRead where it is cut off.
    """
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by the header
    data = inflater.decompress(body, max_bytes + 1)
    if len(data) > max_bytes:
        return None
    if not inflater.eof:
        raise http.client.IncompleteRead(b"")
    return data
