"""Decoding in children: good images by every rule, bad ones with their one verdict, and nobody else harmed."""

from __future__ import annotations

import functools
import io
import os
import random
import signal
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from admodels.contract import preprocess
from worker.errors import Code, CreativeError, Stage
from worker.intake import decode
from worker.intake.child import ChildDiedError, ChildHungError
from worker.intake.decode import DecoderPool
from worker.types import DecodedImage

KINDS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF")
SIZE = (96, 64)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    pool = DecoderPool(1, [SIZE, (32, 32)])
    yield pool
    pool.close()


def picture(width: int = 300, height: int = 200, seed: int = 1, detail: int = 1) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (6 * detail, 9 * detail, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def verdict(pool: DecoderPool, data: bytes) -> CreativeError:
    with pytest.raises(CreativeError) as caught:
        pool.decode(data, ocr=True)
    assert caught.value.stage is Stage.DECODE
    return caught.value


def close(a: Any, b: Any, kind: str = "") -> bool:
    """Alike up to the format's losses; GIF's palette costs most."""
    return bool(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() < (14 if kind == "GIF" else 5))


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_image(pool: DecoderPool, kind: str) -> None:
    got = pool.decode(encoded(picture(), kind), ocr=True)
    assert (got.width, got.height, got.format) == (300, 200, kind)
    assert {size: pixels.shape for size, pixels in got.pixels.items()} == {SIZE: (*SIZE, 3), (32, 32): (32, 32, 3)}
    assert close(got.pixels[SIZE], preprocess.stretch(picture(), *SIZE), kind)
    assert len(got.phash) == 16
    assert got.ocr is not None
    assert got.ocr.shape == (400, 600)
    assert close(got.ocr, picture(600, 400).convert("L"), kind)


def test_pixels_are_those_of_training_to_the_bit(pool: DecoderPool) -> None:
    data = encoded(picture(1200, 628), "JPEG")
    for size, pixels in pool.decode(data, ocr=False).pixels.items():
        assert (pixels == preprocess.model_input(Image.open(io.BytesIO(data)), *size)).all()


def test_pixels_do_not_depend_on_what_else_is_asked_for(pool: DecoderPool) -> None:
    data = encoded(picture(1200, 628), "JPEG")
    with_ocr, without = pool.decode(data, ocr=True), pool.decode(data, ocr=False)
    assert (with_ocr.pixels[SIZE] == without.pixels[SIZE]).all()
    assert with_ocr.phash == without.phash
    assert without.ocr is None
    only_ocr = pool.decode(data, ocr=True, pixels=False)
    assert only_ocr.pixels == {}
    assert only_ocr.ocr is not None
    assert with_ocr.ocr is not None
    assert (only_ocr.ocr == with_ocr.ocr).all()


@pytest.mark.parametrize(
    ("size", "shape"),
    [((1200, 628), (837, 1600)), ((3000, 2000), (1067, 1600)), ((1, 1), (2, 2)), ((100, 1), (2, 200))],
)
def test_the_ocr_image_is_doubled_up_to_its_cap(
    pool: DecoderPool, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    got = pool.decode(encoded(picture(*size), "JPEG"), ocr=True)
    assert got.ocr is not None
    assert got.ocr.shape == shape
    assert (got.width, got.height) == size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_rotation_turns_sides_pixels_and_ocr_image(pool: DecoderPool, kind: str) -> None:
    got = pool.decode(encoded(picture(), kind, exif=exif(6)), ocr=True)
    assert (got.width, got.height) == (200, 300)
    assert close(got.pixels[SIZE], preprocess.stretch(picture().transpose(Image.Transpose.ROTATE_270), *SIZE))
    assert got.ocr is not None
    assert got.ocr.shape == (600, 400)


@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\0"]
)
def test_bad_exif_never_rejects(pool: DecoderPool, block: bytes) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        assert pool.decode(encoded(picture(), kind, exif=block), ocr=False).width == 300


@functools.cache
def odd_images() -> dict[str, bytes]:
    grey16 = Image.fromarray(np.linspace(0, 65535, 3600, dtype=np.uint16).reshape(60, 60))
    palette = picture().quantize(16)
    frames = [picture(seed=seed) for seed in (1, 2, 3)]
    rgba = picture().convert("RGBA")
    rgba.putalpha(100)
    animated = {"save_all": True, "append_images": frames[1:], "duration": 50}
    return {
        "cmyk": encoded(picture().convert("CMYK"), "JPEG"),
        "cmyk with a broken profile": encoded(picture().convert("CMYK"), "JPEG", icc_profile=b"broken" * 50),
        "16 bit": encoded(grey16, "PNG"),
        "1 bit": encoded(picture().convert("1"), "PNG"),
        "palette with transparency": encoded(palette, "PNG", transparency=3),
        "palette with alphas": encoded(palette, "PNG", transparency=bytes(range(16))),
        "rgb with a transparent colour": encoded(picture(), "PNG", transparency=(1, 2, 3)),
        "grey with alpha": encoded(rgba.convert("LA"), "PNG"),
        "webp with alpha": encoded(rgba, "WEBP"),
        "avif with alpha": encoded(rgba, "AVIF"),
        "animated gif": encoded(frames[0], "GIF", **animated),
        "animated webp": encoded(frames[0], "WEBP", **animated),
        "animated png": encoded(frames[0], "PNG", **animated),
        "animated avif": encoded(frames[0], "AVIF", **animated),
        "progressive": encoded(picture(), "JPEG", progressive=True),
        "a zip behind the image": encoded(picture(), "JPEG") + b"PK\x03\x04" + bytes(500),
        "a script behind the image": encoded(picture(), "GIF") + b"<script>alert(1)</script>",
        "a bad profile": encoded(picture(), "PNG", icc_profile=b"no profile"),
    }


@pytest.mark.parametrize("name", sorted(odd_images()))
def test_odd_but_good_images_decode(pool: DecoderPool, name: str) -> None:
    got = pool.decode(odd_images()[name], ocr=True)
    assert got.ocr is not None


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_frame_of_an_animation_is_read(pool: DecoderPool, kind: str) -> None:
    frames = [picture(seed=seed) for seed in (1, 2)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert close(pool.decode(data, ocr=False).pixels[SIZE], preprocess.stretch(frames[0], *SIZE), kind)
    assert not close(pool.decode(data, ocr=False).pixels[SIZE], preprocess.stretch(frames[1], *SIZE), kind)


def png(width: int, height: int, chunks: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes(min(width * height * 3, 1000)))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def lying_webp() -> bytes:
    side = (16_383).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 32) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + side + side + b"VP8 " + bytes(8)


def lying_jpeg() -> bytes:
    data = bytearray(encoded(picture(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    return bytes(data)


def lying_avif() -> bytes:
    data = encoded(picture(), "AVIF")
    return data.replace(b"ispe" + struct.pack(">III", 0, 300, 200), b"ispe" + struct.pack(">III", 0, 30_000, 20_000))


def many_scans(copies: int, side: int = 64, detail: int = 1) -> bytes:
    """A progressive JPEG whose largest scan comes `copies` times more."""
    data = encoded(picture(side, side, detail=detail), "JPEG", progressive=True, quality=80)
    starts = [at for at in range(len(data)) if data.startswith(b"\xff\xda", at)]
    scans = [data[at:end] for at, end in zip(starts, [*starts[1:], len(data) - 2], strict=True)]
    return data[:-2] + max(scans, key=len).split(b"\xff\xc4")[0] * copies + data[-2:]


BOMBS = {
    "png of 10 gigapixels": png(100_000, 100_000),
    "png one row over": png(5_000, 5_001),
    "png 101:1": png(1_010, 10),
    "webp of 40 bytes": lying_webp(),
    "jpeg with a lying header": lying_jpeg(),
    "avif with a lying header": lying_avif(),
    "gif with a huge screen": b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(6) + b";",
    "jpeg with 130 scans": many_scans(120),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_by_their_header_are_refused_without_a_child_dying(pool: DecoderPool, name: str) -> None:
    pids = pool.pids()
    error = verdict(pool, BOMBS[name])
    assert (error.code, error.attempts, error.retryable) == (Code.IMAGE_BOMB, 1, False)
    assert pool.pids() == pids


EMPTY_CHUNK = struct.pack(">I", 0) + b"adSc" + struct.pack(">I", zlib.crc32(b"adSc"))
SLOW: dict[str, Callable[[], bytes]] = {
    "jpeg with 89 scans of 25 megapixels": lambda: many_scans(88, side=5_000, detail=6),
    "png with 600,000 chunks": lambda: png(60, 40, EMPTY_CHUNK * 600_000),
}


@pytest.mark.parametrize("name", SLOW)
def test_over_two_seconds_of_cpu_is_a_bomb(pool: DecoderPool, name: str) -> None:
    error = verdict(pool, SLOW[name]())
    assert (error.code, error.attempts) == (Code.IMAGE_BOMB, 1)
    assert "2 s of CPU" in error.message
    assert pool.decode(encoded(picture(), "PNG"), ocr=False).width == 300


def test_thousands_of_frames_cost_one(pool: DecoderPool) -> None:
    """Decoding them all takes over the bound of CPU time several times."""
    first, second = (Image.new("L", (1_000, 1_000), grey) for grey in (10, 200))
    data = encoded(first, "GIF", save_all=True, append_images=[second], duration=50)
    frame = data[data.rindex(b"\x21\xf9\x04") : -1]
    assert pool.decode(data[:-1] + frame * 3_000 + b";", ocr=False).format == "GIF"


def test_over_300_mb_is_a_bomb_and_the_child_is_replaced(pool: DecoderPool) -> None:
    pids = pool.pids()
    error = verdict(pool, encoded(Image.new("RGB", (5_000, 5_000), "teal"), "WEBP", method=0, lossless=True))
    assert (error.code, error.attempts) == (Code.IMAGE_BOMB, 1)
    assert "300 MB" in error.message
    assert pool.decode(encoded(picture(), "PNG"), ocr=False).width == 300
    assert pool.pids() != pids


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGBA"), ("PNG", "I;16"), ("GIF", "P")])
def test_25_megapixels_are_not_too_many(pool: DecoderPool, kind: str, mode: str) -> None:
    options = {"compress_level": 1} if kind == "PNG" else {}
    got = pool.decode(encoded(Image.new(mode, (5_000, 5_000)), kind, **options), ocr=True)
    assert (got.width, got.height) == (5_000, 5_000)


@pytest.mark.parametrize("kind", KINDS)
def test_half_an_image_is_a_bad_image(pool: DecoderPool, kind: str) -> None:
    data = encoded(picture(), kind)
    for part in (data[: len(data) // 2], data[:40]):
        assert verdict(pool, part).code is Code.BAD_IMAGE


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + encoded(picture(), "JPEG"),
        b"\xff\xd8\xff" + bytes(1000),
        b"GIF89a",
        b"RIFF\xff\xff\xff\xffWEBP" + bytes(100),
        b"\0\0\0\x18ftypavif" + bytes(100),
        png(0, 10),
        encoded(picture(), "PNG").replace(b"IDAT", b"IDAX"),
    ],
)
def test_a_signature_alone_is_no_image(pool: DecoderPool, data: bytes) -> None:
    assert verdict(pool, data).code is Code.BAD_IMAGE


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "ICO", "PPM", "TGA", "JPEG2000"])
def test_formats_that_pillow_could_read_are_still_unsupported(pool: DecoderPool, kind: str) -> None:
    assert verdict(pool, encoded(picture(64, 64), kind)).code is Code.UNSUPPORTED_FORMAT


def test_an_empty_file(pool: DecoderPool) -> None:
    error = verdict(pool, b"")
    assert error.code is Code.UNSUPPORTED_FORMAT
    assert "empty" in error.message


def test_damaged_images_have_one_verdict_each_and_kill_nobody(pool: DecoderPool) -> None:
    rng = random.Random(7)
    pids = pool.pids()
    for kind in KINDS:
        good = encoded(picture(120, 80), kind)
        for _ in range(40):
            data = bytearray(good)
            for _ in range(rng.choice((1, 3, 30))):
                data[rng.randrange(len(data))] = rng.randrange(256)
            try:
                pool.decode(bytes(data), ocr=True)
            except CreativeError as error:
                if error.code not in (Code.BAD_IMAGE, Code.IMAGE_BOMB, Code.UNSUPPORTED_FORMAT):
                    raise
    assert pool.pids() == pids


def test_many_threads_and_no_descriptor_left() -> None:
    before = set(os.listdir("/proc/self/fd"))
    pool = DecoderPool(2, [SIZE], recycle_after=5)
    images = [encoded(picture(100 + n, 80), "PNG") for n in range(20)]
    with ThreadPoolExecutor(4) as threads:
        widths = [got.width for got in threads.map(lambda data: pool.decode(data, ocr=False), images)]
    pool.close()
    assert widths == [100 + n for n in range(20)]
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_decoder_killed_from_outside_costs_no_record() -> None:
    pool = DecoderPool(1, [SIZE])
    data = encoded(picture(3000, 2000), "PNG", compress_level=1)
    with ThreadPoolExecutor(1) as thread:
        decoding = thread.submit(pool.decode, data, ocr=False)
        while not decoding.running():
            pass
        os.kill(pool.pids()[0], signal.SIGSEGV)
        assert decoding.result().width == 3000
    pool.close()


class ScriptedChildren:
    """Stands in for the pool of children: raises or returns what it was given, in order."""

    def __init__(self, *outcomes: Exception) -> None:
        self.outcomes = list(outcomes)

    def ask(self, _request: object, _timeout: float) -> Any:
        raise self.outcomes.pop(0)


@pytest.mark.parametrize(
    ("outcomes", "code", "retryable", "attempts"),
    [
        ((ChildDiedError(-11), ChildDiedError(-6)), Code.DECODE_CRASHED, False, 2),
        ((ChildDiedError(-9), ChildHungError()), Code.DECODE_CRASHED, True, 2),
        ((ChildHungError(), ChildHungError()), Code.DECODE_CRASHED, True, 2),
        ((ChildHungError(), ChildDiedError(3)), Code.DECODE_CRASHED, False, 2),
        ((ChildDiedError(-int(signal.SIGPROF)),), Code.IMAGE_BOMB, False, 1),
        ((ChildDiedError(-11), ChildDiedError(-int(signal.SIGXCPU))), Code.IMAGE_BOMB, False, 2),
    ],
)
def test_how_children_end_decides_the_verdict(
    monkeypatch: pytest.MonkeyPatch, outcomes: tuple[Exception, ...], code: Code, retryable: bool, attempts: int
) -> None:
    monkeypatch.setattr(decode, "ChildPool", lambda *_, **__: ScriptedChildren(*outcomes))
    error = verdict(DecoderPool(1, [SIZE]), b"image")
    assert (error.code, error.retryable, error.attempts) == (code, retryable, attempts)


def test_no_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="no sizes"):
        DecoderPool(1, [])


@pytest.mark.data
def test_the_hostile_set_has_one_verdict_each(pool: DecoderPool, data_root: Path) -> None:
    folder = data_root / "hostile_images"
    rows = [line.split("\t") for line in (folder / "outcomes.tsv").read_text().splitlines()[1:]]
    accepted = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF8": "GIF"}
    pids, counts, wrong = pool.pids(), Counter[str](), []
    for name, *_, outcome in [(row[0], row[3]) for row in rows]:
        data = (folder / name).read_bytes()
        try:
            got: DecodedImage | Code = pool.decode(data, ocr=True)
        except CreativeError as error:
            got = error.code
        counts["decoded" if isinstance(got, DecodedImage) else got.value] += 1
        known = data.startswith(tuple(accepted)) or data[8:12] == b"WEBP" or data[4:12] in (b"ftypavif", b"ftypavis")
        right = (
            got is Code.UNSUPPORTED_FORMAT
            if not known
            else isinstance(got, DecodedImage)
            if outcome == "ok"
            else got in (Code.BAD_IMAGE, Code.IMAGE_BOMB)
        )
        if not right:
            wrong.append((name, outcome, got if isinstance(got, Code) else "decoded"))
    assert wrong == []
    assert pool.pids() == pids
    assert counts == {"decoded": 329, "unsupported_format": 44, "bad_image": 23, "image_bomb": 1}
