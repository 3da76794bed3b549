"""Pixels by the contract: rotation, alpha, CMYK, 16 bit, stretching, the perceptual hash."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from admodels.contract import preprocess


def opened(image: Image.Image, kind: str = "PNG", **options: object) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(io.BytesIO(file.getvalue()))


def scene(width: int = 320, height: int = 200, seed: int = 0) -> Image.Image:
    """Smooth coloured blobs, brighter to the top left, so that every orientation is told apart."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 120, (5, 8, 3)).astype(np.uint8)
    coarse[:2, :3] += 130
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_image_upright(kind: str, orientation: int) -> None:
    upright = scene()
    inverse = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    turn = preprocess._TRANSPOSE.get(inverse)
    stored = upright if turn is None else upright.transpose(turn)
    got = preprocess.to_rgb(opened(stored, kind, exif=exif_of(orientation)))
    assert got.size == upright.size
    difference = np.abs(np.asarray(got, float) - np.asarray(upright, float)).mean()
    assert difference < 6


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow's own reading on open
@pytest.mark.parametrize(
    "block", [b"Exif\0\0", b"garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"]
)
def test_bad_exif_never_rejects_a_good_image(block: bytes) -> None:
    image = opened(scene(), "JPEG", exif=block)
    assert preprocess.to_rgb(image).size == (320, 200)


def test_orientation_out_of_range_counts_as_none() -> None:
    assert preprocess.orientation(opened(scene(), "JPEG", exif=exif_of(9))) == 1


def test_alpha_lies_on_white() -> None:
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert np.asarray(preprocess.to_rgb(opened(half)))[0, 0].tolist() == [127, 127, 127]
    clear = Image.new("LA", (4, 4), (0, 0))
    assert np.asarray(preprocess.to_rgb(opened(clear)))[0, 0].tolist() == [255, 255, 255]


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    assert np.asarray(preprocess.to_rgb(opened(image, transparency=1)))[0, 0].tolist() == [255, 255, 255]
    assert np.asarray(preprocess.to_rgb(opened(image)))[0, 0].tolist() == [200, 0, 0]


def test_sixteen_bit_grey_keeps_its_range() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    got = np.asarray(preprocess.to_rgb(opened(Image.fromarray(ramp))))
    assert got[0, 0].tolist() == [0, 0, 0]
    assert got[-1, -1].tolist() == [255, 255, 255]
    assert np.abs(got[..., 0].astype(int) - ramp / 257).max() <= 1


def test_cmyk_reads_as_colour_with_and_without_a_profile() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert np.asarray(preprocess.to_rgb(opened(cyan, "JPEG")))[8, 8].tolist() == pytest.approx([0, 255, 255], abs=3)
    for profile in (b"not a profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        image = opened(cyan, "JPEG", icc_profile=profile)
        assert np.asarray(preprocess.to_rgb(image))[8, 8].tolist() == pytest.approx([0, 255, 255], abs=3)


def test_stretch_fills_the_rectangle() -> None:
    wide = Image.new("RGB", (400, 100), "red")
    wide.paste("blue", (200, 0, 400, 100))
    pixels = preprocess.stretch(wide, 64, 48)
    assert pixels.shape == (64, 48, 3)
    assert pixels.dtype == np.uint8
    assert pixels[32, 4].tolist() == [255, 0, 0]
    assert pixels[32, -5].tolist() == [0, 0, 255]


def test_one_pixel_is_enough() -> None:
    assert (preprocess.model_input(opened(Image.new("L", (1, 1), 7)), 8, 8) == 7).all()


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(orientation: int) -> None:
    file = io.BytesIO()
    scene(1600, 900).save(file, "JPEG", quality=95, exif=exif_of(orientation))
    image = Image.open(io.BytesIO(file.getvalue()))
    drafted = preprocess.model_input(image, 128, 128)
    assert image.size == (400, 225)
    whole = preprocess.stretch(preprocess.to_rgb(Image.open(io.BytesIO(file.getvalue()))), 128, 128)
    assert np.abs(drafted.astype(int) - whole).mean() < 1.5


def test_phash_is_stable_under_small_changes_and_tells_images_apart() -> None:
    def bits(image: Image.Image) -> int:
        return int(preprocess.phash(image), 16)

    base = scene(640, 400)
    assert len(preprocess.phash(base)) == 16
    smaller = preprocess.to_rgb(opened(base.resize((320, 200)), "JPEG", quality=60))
    assert (bits(base) ^ bits(smaller)).bit_count() <= 6
    assert (bits(base) ^ bits(scene(640, 400, seed=1))).bit_count() >= 16


def test_phash_agrees_with_a_plain_dct() -> None:
    grey = np.asarray(scene(32, 32).convert("L"), float)
    low = np.empty((8, 8))
    for u in range(8):
        for v in range(8):
            rows = np.cos(np.pi * (2 * np.arange(32) + 1) * u / 64)
            columns = np.cos(np.pi * (2 * np.arange(32) + 1) * v / 64)
            low[u, v] = (grey * rows[:, None] * columns[None, :]).sum()
    expected = "".join("1" if bit else "0" for bit in (low > np.median(low)).ravel())
    assert preprocess.phash(scene(32, 32).convert("L").convert("RGB")) == f"{int(expected, 2):016x}"
