"""Pixels, the same way in training and in serving: an opened image becomes the model's uint8 rectangle.

`model_input` is the whole way. Its steps stand alone for the worker, which takes a perceptual hash and an OCR image
from the same bytes. Everything here trusts nobody's metadata: a bad EXIF block or a bad ICC profile never rejects an
image that decodes. Limits on size and time are the caller's.

PREPROCESSING names this code in the cache's digests: change it with anything that changes a pixel.
"""

from __future__ import annotations

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

PREPROCESSING = "stretch-1"

_BYTE_ORDER = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def model_input(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """The pixels that a model reads of a freshly opened image: uint8 height×width×3 RGB."""
    shrink_on_load(image, height, width)
    return stretch(to_rgb(image), height, width)


def shrink_on_load(image: Image.Image, height: int, width: int) -> None:
    """Let a JPEG that is not yet decoded be decoded at 1/2, 1/4 or 1/8, no smaller than height×width after rotation."""
    if orientation(image) >= 5:
        height, width = width, height
    image.draft(None, (width, height))  # None keeps the mode; a no-op for every other format


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1–8; 1 where there is none or it can't be read.

    Read by hand: Pillow's reader warns, raises a dozen exceptions on a stranger's block and also believes XMP, which
    browsers don't.
    """
    block = image.info.get("exif")
    if not isinstance(block, bytes):
        return 1
    tiff = block.removeprefix(b"Exif\0\0")
    order = _BYTE_ORDER.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == _ORIENTATION_TAG:
                (value,) = struct.unpack_from(order + {3: "H", 4: "I"}.get(kind, "B"), tiff, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:  # an offset or a count that points outside the block
        return 1
    return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Upright RGB: EXIF rotation, alpha on white, CMYK by its ICC profile, 16 bit by its range. Decodes if need be.

    Raises what Pillow raises on pixels that don't decode. `image` may be changed in place.
    """
    image.load()
    turn = _TRANSPOSE.get(orientation(image))  # after load: PNG may carry EXIF behind its pixels
    if turn is not None:
        info = image.info
        image = image.transpose(turn)
        image.info = info
    if image.mode in _SIXTEEN_BIT:
        return _from_sixteen_bit(image)
    if image.mode == "CMYK":
        return _from_cmyk(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def stretch(rgb: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """uint8 height×width×3: the whole image stretched to the rectangle, antialiased, never letterboxed."""
    small = rgb.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small, dtype=np.uint8)


def phash(rgb: Image.Image) -> str:
    """64-bit DCT perceptual hash as 16 hex digits; near-equal images differ in few bits (compare by Hamming distance).

    The 8×8 lowest frequencies of the 32×32 grey image against their median, row by row, most significant bit first.
    """
    grey = np.asarray(rgb.resize((32, 32), Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L"), dtype=np.float64)
    low = _DCT_ROWS @ grey @ _DCT_ROWS.T  # 8×8
    return np.packbits(low > np.median(low)).tobytes().hex()


# The first 8 rows of the orthogonal DCT-II over 32 samples. 8×32
_DCT_ROWS = np.cos(np.pi / 32 * (np.arange(32) + 0.5)[None, :] * np.arange(8)[:, None])


def _from_sixteen_bit(image: Image.Image) -> Image.Image:
    """`convert` clips 16-bit grey at 255; divide by the range instead."""
    values = np.asarray(image)  # H×W, uint16 or int32
    grey = (np.clip(values, 0, 65535) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            converted = None  # the profile is broken or for another colour space
        if converted is not None:
            return converted
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        try:
            image = image.convert("RGBA")
        except ValueError:  # a transparency entry that does not fit its mode says nothing
            return image.convert("RGB")
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image)
    return flat
