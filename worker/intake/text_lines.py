"""What lines of text say: rectangles of a picture → strips of one height → batches for a recogniser → words with boxes.

As PP-OCR does it (crop along the line, 48 pixels high, CTC over columns of 8 pixels), in NumPy and Pillow alone. All
batches are of one picture: how far a strip is padded changes its reading a little, and no picture's reading may depend
on its neighbours.

Legend: N lines of a batch, T steps of a line, C characters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from admodels.contract.ocr import Word
from worker.intake.text_boxes import Rectangle

VERSION = "ctc-1"
"""Part of OCR's identity in the cache: change it with anything that changes a word."""

HEIGHT = 48
STEP = 8
"""Pixels of a strip per step of the recogniser."""
_NARROWEST, _WIDEST = 320, 2400
_BATCH_COLUMNS = 4_800
"""Width of all strips of a batch together: 600 steps, of 75 KB each with 18,710 characters. Twice as much takes 250 MB
more and is no faster on a CPU."""
_UPRIGHT = 1.5
"""A box this many times higher than wide is read as a line that was turned."""

Recognise = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""N×3×48×W in [−1, 1] → N×T×C probabilities."""


def words(
    grey: NDArray[np.uint8], boxes: Sequence[Rectangle], characters: Sequence[str], read: Recognise
) -> list[Word]:
    """`[text, confidence 0–100, left, top, width, height, line]` of every box, in pixels of `grey` (uint8 H×W).

    characters: what the recogniser's outputs mean, C of them; the first is CTC's blank.
    """
    picture = Image.fromarray(grey)
    strips = [_Strip(box, number) for number, box in enumerate(boxes)]
    found: list[Word] = []
    for batch in _batches(sorted(strips, key=lambda strip: strip.width)):
        width = max(_NARROWEST, batch[-1].width)
        pixels = np.zeros((len(batch), 3, HEIGHT, width), np.float32)
        for row, strip in enumerate(batch):
            pixels[row, :, :, : strip.width] = strip.cut(picture) / np.float32(127.5) - np.float32(1)
        probabilities = read(pixels)  # N×T×C
        best = probabilities.argmax(axis=2)  # N×T
        sure = np.take_along_axis(probabilities, best[:, :, None], axis=2)[:, :, 0]  # N×T
        for strip, steps, certainty in zip(batch, best, sure, strict=True):
            found += strip.words(steps, certainty, characters)
    return found


class _Strip:
    """One line, as it is cut from the picture and as its words lie there."""

    def __init__(self, box: Rectangle, number: int) -> None:
        upright = box.half_height >= _UPRIGHT * box.half_width
        along, across = (box.across, (-box.along[0], -box.along[1])) if upright else (box.along, box.across)
        self._half_length = box.half_height if upright else box.half_width
        self._half_depth = box.half_width if upright else box.half_height
        self._along, self._across = np.array(along), np.array(across)
        self._centre = np.array([box.x, box.y])
        self._number = number
        self.width = min(_WIDEST, max(STEP, math.ceil(HEIGHT * self._half_length / self._half_depth)))

    def cut(self, picture: Image.Image) -> NDArray[np.uint8]:
        """uint8 HEIGHT×width: first at the picture's own scale along the line, then to the strip's, antialiased."""
        own = (max(1, round(2 * self._half_length)), max(1, round(2 * self._half_depth)))
        start = self._centre - self._half_length * self._along - self._half_depth * self._across
        step_x, step_y = 2 * self._half_length / own[0] * self._along, 2 * self._half_depth / own[1] * self._across
        # Pillow samples at the middle of pixels: the map's and the picture's pixels are meant by their middles too.
        matrix = (step_x[0], step_y[0], start[0] + 0.5, step_x[1], step_y[1], start[1] + 0.5)
        line = picture.transform(own, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        return np.asarray(line.resize((self.width, HEIGHT), Image.Resampling.BILINEAR))

    def words(self, steps: NDArray[np.int64], sure: NDArray[np.float32], characters: Sequence[str]) -> Iterator[Word]:
        """CTC: repeats and blanks go; what stands between spaces is a word. T steps and their probabilities."""
        kept = steps != 0
        kept[1:] &= steps[1:] != steps[:-1]
        run: list[int] = []
        for at in [*np.flatnonzero(kept).tolist(), -1]:
            if at >= 0 and not characters[steps[at]].isspace():
                run.append(at)
            elif run:
                text = "".join(characters[steps[step]] for step in run)
                box = self._box((run[0] - 0.5) * STEP / self.width, (run[-1] + 1.5) * STEP / self.width)
                yield [text, 100 * float(np.mean(sure[run])), *box, self._number]
                run = []

    def _box(self, begin: float, end: float) -> tuple[int, int, int, int]:
        """Left, top, width and height of the upright box around a part of the line (fractions of its length)."""
        begin, end = max(0.0, begin), min(1.0, end)
        middle = self._centre + (begin + end - 1) * self._half_length * self._along
        reach = (end - begin) * self._half_length * np.abs(self._along) + self._half_depth * np.abs(self._across)
        left, top = np.floor(middle - reach).astype(int).tolist()
        width, height = np.ceil(2 * reach).astype(int).tolist()
        return left, top, width, height


def _batches(strips: Sequence[_Strip]) -> Iterator[list[_Strip]]:
    """Strips in the order of their widths, as many at once as fit _BATCH_COLUMNS when all are as wide as the last."""
    batch: list[_Strip] = []
    for strip in strips:
        if batch and (len(batch) + 1) * max(_NARROWEST, strip.width) > _BATCH_COLUMNS:
            yield batch
            batch = []
        batch.append(strip)
    if batch:
        yield batch
