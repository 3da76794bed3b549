"""What is told of an image by its bytes alone."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from worker.intake import image_guard
from worker.intake.image_guard import RefusedError


def encoded(kind: str, size: tuple[int, int] = (8, 8), **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, kind, **options)
    return file.getvalue()


def more_scans(count: int) -> bytes:
    data = encoded("JPEG", (64, 64), progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * count + data[-2:]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "AVIF"])
def test_accepted_formats_are_told_by_their_bytes(kind: str) -> None:
    data = encoded(kind)
    assert image_guard.sniff(data) == image_guard.sniff(memoryview(data)) == kind
    assert image_guard.open_checked(data, kind).size == (8, 8)


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        (b"avis" + bytes(4), "AVIF"),
        (b"mif1" + bytes(4) + b"miafavif", "AVIF"),
        (b"mif1" + bytes(4) + b"heic", None),
        (b"isom" + bytes(4) + b"mp42", None),
    ],
)
def test_avif_is_told_by_any_of_its_brands(box: bytes, kind: str | None) -> None:
    data = struct.pack(">I", 8 + len(box)) + b"ftyp" + box + b"avif outside the box"
    if kind is None:
        with pytest.raises(RefusedError):
            image_guard.sniff(data)
    else:
        assert image_guard.sniff(data) == kind


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\x89PNG\r\n\x1a",
        b"GIF88a",
        b"RIFF\0\0\0\0WAVE",
        b"BM" + bytes(60),
        b"II*\0" + bytes(60),
        b"MM\0*" + bytes(60),
        b"\0\0\1\0" + bytes(60),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<?xml version='1.0'?>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"P6 9999 9999 255\n",
        b"<html>404 Not Found",
        b"\x1f\x8b" + bytes(60),
    ],
)
def test_anything_else_is_unsupported(data: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        image_guard.sniff(data)
    assert caught.value.code == "unsupported_format"


@pytest.mark.parametrize("size", [(5000, 5000), (100, 1), (1, 100), (50_000, 500), (1, 1)])
def test_sizes_within_the_limits(size: tuple[int, int]) -> None:
    image_guard.check_size(*size)


@pytest.mark.parametrize("size", [(5001, 5000), (101, 1), (1, 101), (50_001, 500), (2**31, 2**31)])
def test_sizes_over_the_limits(size: tuple[int, int]) -> None:
    with pytest.raises(RefusedError) as caught:
        image_guard.check_size(*size)
    assert caught.value.code == "image_bomb"


def test_scans_are_counted_exactly_around_the_limit() -> None:
    scans = more_scans(0).count(b"\xff\xda")
    assert image_guard.count_scans(more_scans(100 - scans)) <= 100
    assert image_guard.count_scans(more_scans(101 - scans)) == 101
    with pytest.raises(RefusedError, match="over 100 JPEG scans"):
        image_guard.open_checked(more_scans(101 - scans), "JPEG")


def test_scan_marks_in_metadata_or_behind_the_image_do_not_count() -> None:
    plain = encoded("JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 2 + 60_000) + b"\xff\xda" * 30_000
    thumbnail = plain[:2] + segment + plain[2:]
    video_behind = plain + b"\xff\xda" * 500
    for data in (thumbnail, video_behind):
        assert image_guard.count_scans(data) <= 1
        assert image_guard.open_checked(data, "JPEG").size == (8, 8)


@pytest.mark.parametrize("data", [b"\xff\xd8", b"\xff\xd8" + b"\xff\xda" * 200, b"\xff\xd8" + b"\xff" * 1000])
def test_scans_of_nonsense_are_counted_without_an_end(data: bytes) -> None:
    assert 0 <= image_guard.count_scans(data) <= 101
