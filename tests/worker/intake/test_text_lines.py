"""Strips, batches and words: with a recogniser that says what it is told, and with PP-OCR's own."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from admodels.contract.ocr import lines_of_words, text_of_lines
from worker.intake import text_lines
from worker.intake.text_boxes import Rectangle

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
CHARACTERS = ["", "a", "b", "c", " "]
needs_models = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr") is None and not os.environ.get("CI"), reason="rapidocr is not installed"
)


def line(left: float, top: float, width: float, height: float) -> Rectangle:
    return Rectangle(left + width / 2, top + height / 2, width / 2, height / 2, (1, 0))


class Says:
    """A recogniser that gives the same steps for every strip, and remembers the batches it was given."""

    def __init__(self, steps: Sequence[int], sure: float = 0.8) -> None:
        self.steps, self.sure = steps, sure
        self.batches: list[NDArray[np.float32]] = []

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        self.batches.append(pixels)
        made = np.full((len(pixels), pixels.shape[3] // text_lines.STEP, len(CHARACTERS)), 0.01, np.float32)
        for step in range(made.shape[1]):
            made[:, step, self.steps[step] if step < len(self.steps) else 0] = self.sure
        return made


def test_repeats_and_blanks_go_and_spaces_part_words() -> None:
    recognise = Says([0, 1, 1, 0, 1, 2, 4, 0, 3, 3])
    found = text_lines.words(np.full((60, 400), 255, np.uint8), [line(40, 10, 320, 48)], CHARACTERS, recognise)
    assert [word[0] for word in found] == ["aab", "c"]
    assert [word[1] for word in found] == pytest.approx([80, 80])
    first, second = found
    # Steps 1 to 5 and 8, of 8 pixels each, on a line that is as high as the strip.
    assert first[2:] == [40 + 4, 10, 48, 48, 0]
    assert second[2:] == [40 + 60, 10, 16, 48, 0]


def test_strips_are_cut_along_the_line_and_scaled_to_one_height() -> None:
    grey = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    recognise = Says([1])
    text_lines.words(grey, [line(20, 20, 160, 24)], CHARACTERS, recognise)
    (batch,) = recognise.batches
    assert batch.shape == (1, 3, 48, 320)
    assert np.ptp(batch[0], axis=0).max() == 0  # grey: three equal planes
    values = (batch[0, 0, 24] + 1) * 127.5
    assert values[[1, 160, 318]] == pytest.approx([20.4, 99.9, 178.8], abs=1.0)
    # The same line, turned by a right angle, is read from top to bottom.
    turned = Says([1])
    upright = Rectangle(100, 100, 12, 80, (1, 0))
    text_lines.words(
        np.ascontiguousarray(np.tile(np.arange(200, dtype=np.uint8), (200, 1)).T), [upright], CHARACTERS, turned
    )
    down = (turned.batches[0][0, 0, 24] + 1) * 127.5
    assert down[1] < down[160] < down[318]


def test_batches_are_of_like_widths_and_bounded() -> None:
    widths = [100, 4000, 30, 300, 60, 900] * 10
    boxes = [line(0, 0, width, 20) for width in widths]
    recognise = Says([1])
    found = text_lines.words(np.zeros((30, 4000), np.uint8), boxes, CHARACTERS, recognise)
    assert sorted(word[6] for word in found) == list(range(len(boxes)))
    assert sum(len(batch) for batch in recognise.batches) == len(boxes)
    for batch in recognise.batches:
        assert batch.shape[3] <= 2400
        assert len(batch) == 1 or len(batch) * batch.shape[3] <= 4_800
    assert len(recognise.batches) < 25


def test_a_picture_without_lines_asks_nothing() -> None:
    recognise = Says([1])
    assert text_lines.words(np.zeros((30, 40), np.uint8), [], CHARACTERS, recognise) == []
    assert not recognise.batches


@needs_models
@pytest.mark.parametrize("degrees", [0, 12, -20, -90])  # the last: turned to the right, read from the top down
def test_real_models_read_lines_in_any_direction(degrees: int) -> None:
    from worker.intake.ocr_rapidocr import Reader

    image = Image.new("L", (500, 500), 250)
    ImageDraw.Draw(image).text((60, 220), "Free delivery", font=ImageFont.truetype(FONT, 48), fill=10)
    grey = np.asarray(image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=250))
    found = Reader(30).read(grey)
    assert text_of_lines(lines_of_words(found)) == "Free delivery"
    at, size = (3, 5) if degrees == -90 else (2, 4)  # the text runs from 60 to about 390
    assert 20 < min(word[at] for word in found) < 100
    assert 360 < max(word[at] + word[size] for word in found) < 470
