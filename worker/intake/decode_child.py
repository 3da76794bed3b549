"""The decoder's child process: one image in, its pixels or a verdict out. `python -m worker.intake.decode_child SIZES`.

SIZES are `HEIGHTxWIDTH`, comma-separated. A request is a flags byte (OCR, PIXELS) and the image's bytes.
"""

from __future__ import annotations

import io
import sys
from typing import Any

from PIL import Image

from admodels.contract import preprocess
from admodels.contract.ocr import grey_for_ocr, size_for_ocr
from worker.intake import image_guard, sandbox
from worker.intake.frames import Buffer, pack, serve
from worker.intake.image_guard import RefusedError

OCR, PIXELS = 1, 2
CPU_SECONDS = 2.0
MEMORY_BYTES = 300 * 1000 * 1000
_LARGEST_ALLOCATION = 4 * image_guard.MAX_PIXELS


def main(arguments: list[str]) -> None:
    """Warm up, give up what decoding does not need, serve."""
    sizes = parse_sizes(arguments[0])
    image_guard.configure()
    _warm_up()
    filtered = sandbox.forbid_files_and_network()
    serve({"filtered": filtered}, lambda request: answer(request, sizes))


def parse_sizes(text: str) -> list[tuple[int, int]]:
    """`256x256,384x384` → [(height, width), …]."""
    return [(int(height), int(width)) for height, width in (size.split("x") for size in text.split(","))]


def answer(request: memoryview, sizes: list[tuple[int, int]]) -> list[Buffer]:
    """Decode within the bounds. Never raises on any bytes; past the CPU bound the process dies."""
    try:
        with sandbox.bounded(CPU_SECONDS, MEMORY_BYTES) as room_bytes:
            try:
                head, body = decode(request[1:], sizes, ocr=bool(request[0] & OCR), pixels=bool(request[0] & PIXELS))
            except RefusedError:
                raise
            except Exception as error:
                if room_bytes() < _LARGEST_ALLOCATION:  # a library that ran out of memory need not say so
                    raise MemoryError from error
                raise
        return pack(head, body)
    except RefusedError as refused:
        return pack({"code": refused.code, "message": str(refused)})
    except MemoryError:  # what is left of the heap is anyone's guess: retire
        message = f"decoding takes over {MEMORY_BYTES // 1_000_000} MB"
        return pack({"code": "image_bomb", "message": message}, retire=True)
    except Exception as error:  # noqa: BLE001  # eight kinds come out of decoding; one image, one verdict
        return pack({"code": "bad_image", "message": f"the image does not decode ({type(error).__name__})"})


def decode(
    data: memoryview, sizes: list[tuple[int, int]], *, ocr: bool, pixels: bool
) -> tuple[dict[str, Any], list[Buffer]]:
    """The reply's head and body: the pixels of each size in order, then the OCR image. Raises anything."""
    kind = image_guard.sniff(data)
    image = image_guard.open_checked(data, kind)
    width, height = image.size
    preprocess.shrink_on_load(image, *sizes[0])
    rgb = preprocess.to_rgb(image)
    if preprocess.orientation(image) >= 5:
        width, height = height, width
    head: dict[str, Any] = {"width": width, "height": height, "format": kind, "phash": preprocess.phash(rgb)}
    body: list[Buffer] = []
    if pixels:
        for index, size in enumerate(sizes):
            source = rgb if index == 0 else _again(data, kind, rgb, size)
            body.append(preprocess.stretch(source, *size).data)
    if ocr:
        grey_size = size_for_ocr(width, height)
        grey = grey_for_ocr(_again(data, kind, rgb, (grey_size[1], grey_size[0])), grey_size)
        head["ocr"] = grey.shape
        body.append(grey.data)
    return head, body


def _again(data: memoryview, kind: str, rgb: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image for another size: a JPEG, decoded small for the first one, is decoded anew.

    So no size's pixels depend on what else was asked for.
    """
    if kind != "JPEG":
        return rgb
    image = Image.open(io.BytesIO(data), formats=[kind])
    preprocess.shrink_on_load(image, *size)
    return preprocess.to_rgb(image)


def _warm_up() -> None:
    """Load the codecs and their tables now: what they map once is no image's cost."""
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "AVIF"):
        file = io.BytesIO()
        Image.new("RGB", (64, 64)).save(file, kind)
        preprocess.stretch(preprocess.to_rgb(Image.open(file, formats=[kind])), 32, 32)


if __name__ == "__main__":
    main(sys.argv[1:])
