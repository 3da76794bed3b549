"""What can be told of an image before a pixel is decoded: its format, and whether its header asks too much."""

from __future__ import annotations

import io
import re
import warnings

from PIL import AvifImagePlugin, Image

MAX_PIXELS = 25_000_000
MAX_SIDES = 100
MAX_JPEG_SCANS = 100

_BRANDS_AT, _MAX_BRANDS_BYTES = 16, 4096
_MAX_META_BYTES = 64 * 1024
_ISPE = re.compile(rb"ispe\0\0\0\0(.{4})(.{4})", re.DOTALL)
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # not stuffing, fill or a restart
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9


class RefusedError(Exception):
    """`code` is one of the contract's: unsupported_format, bad_image, image_bomb. The message holds no content."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def configure() -> None:
    """Set Pillow up for strangers' images, once per process."""
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # a child has one core's worth of work


def sniff(data: bytes | memoryview) -> str:
    """JPEG, PNG, GIF, WEBP or AVIF by the first bytes. Raises RefusedError `unsupported_format`."""
    head = bytes(data[:_MAX_BRANDS_BYTES])
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = head[_BRANDS_AT : int.from_bytes(head[:4], "big")]
        if {head[8:12], *(brands[at : at + 4] for at in range(0, len(brands), 4))} & {b"avif", b"avis"}:
            return "AVIF"
    raise RefusedError(
        "unsupported_format", "the file is empty" if not data else "no JPEG, PNG, GIF, WebP or AVIF signature"
    )


def open_checked(data: bytes | memoryview, kind: str) -> Image.Image:
    """Open `data` as `kind` without decoding. Raises RefusedError `image_bomb` by the header, or what Pillow raises."""
    for size in _header_sizes(data, kind):  # before opening: Pillow allocates a WebP's canvas there
        check_size(*size)
    if kind == "JPEG" and (scans := count_scans(data)) > MAX_JPEG_SCANS:
        raise RefusedError("image_bomb", f"over {MAX_JPEG_SCANS} JPEG scans ({scans} counted)")
    try:
        image = Image.open(io.BytesIO(data), formats=[kind])
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise RefusedError("image_bomb", f"over {MAX_PIXELS} pixels by the header") from None
    check_size(*image.size)
    return image


def check_size(width: int, height: int) -> None:
    """Raise RefusedError `image_bomb` for over MAX_PIXELS or sides over MAX_SIDES:1."""
    if width * height > MAX_PIXELS:
        raise RefusedError("image_bomb", f"{width}x{height} is over {MAX_PIXELS} pixels")
    if max(width, height) > MAX_SIDES * max(1, min(width, height)):
        raise RefusedError("image_bomb", f"{width}x{height}: sides over {MAX_SIDES}:1")


def count_scans(data: bytes | memoryview) -> int:
    """JPEG scans up to the end of the image, counted no further than one past MAX_JPEG_SCANS.

    Follows the markers, so that neither an embedded thumbnail nor a video behind the image counts.
    """
    whole = bytes(data)
    if whole.count(b"\xff\xda") <= MAX_JPEG_SCANS:  # at least as many as there are scans
        return 0
    scans, at = 0, 2
    while scans <= MAX_JPEG_SCANS and (found := _MARKER.search(whole, at)):
        marker, at = found[1][0], found.end()
        if marker == _END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN
        if marker > 0x01 and marker != 0xD8:  # every other marker carries a segment with its length
            at += int.from_bytes(whole[at : at + 2], "big")
    return scans


def _header_sizes(data: bytes | memoryview, kind: str) -> list[tuple[int, int]]:
    """The sizes that a header says, whatever is wrong with the rest. JPEG's stands deeper: that is Pillow's part."""
    head = bytes(data[:_MAX_META_BYTES])
    if kind == "PNG" and head[12:16] == b"IHDR":
        return [(int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))]
    if kind == "GIF":
        return [(int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little"))]
    if kind == "WEBP":
        return [_webp_canvas(head[12:32].ljust(20, b"\0"))]
    if kind == "AVIF":  # of the image, its tiles, its alpha
        return [(int.from_bytes(found[1], "big"), int.from_bytes(found[2], "big")) for found in _ISPE.finditer(head)]
    return []


def _webp_canvas(chunk: bytes) -> tuple[int, int]:
    """Width and height by the first chunk; (1, 1) where it says nothing: libwebp will have its say."""
    if chunk[:4] == b"VP8X":
        return 1 + int.from_bytes(chunk[12:15], "little"), 1 + int.from_bytes(chunk[15:18], "little")
    if chunk[:4] == b"VP8L":
        bits = int.from_bytes(chunk[9:13], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk[:4] == b"VP8 ":
        width, height = int.from_bytes(chunk[14:16], "little"), int.from_bytes(chunk[16:18], "little")
        return max(1, width & 0x3FFF), max(1, height & 0x3FFF)
    return 1, 1
