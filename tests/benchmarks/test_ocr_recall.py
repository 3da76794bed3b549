"""The count of words behind the table in docs/performance.md."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from admodels.contract.ocr import grey_for_ocr, size_for_ocr
from benchmarks.ocr_recall import PICTURES, Row, counted, generated, grey, measure
from worker.intake import ocr_pytesseract


class Says:
    """A reader that knows what it says."""

    identity = "says"

    def __init__(self, *words: str) -> None:
        self._words = words

    def read(self, _: Any) -> list[list[Any]]:
        return [[word, 90.0, 0, 0, 10, 10, 0] for word in self._words]


def test_words_count_without_case_and_punctuation_as_often_as_they_stand_there() -> None:
    assert counted("Sale, SALE! £5.99 don't") == Counter({"sale": 2, "5.99": 1, "don't": 1})
    blank = [(grey_image(), counted("Free trial, free delivery. Start now"), counted("Start now"))]
    row = measure(Says("free", "Trial,", "now", "noise"), grey(1), blank, Row("says", "grey 1×"))  # type: ignore[arg-type]
    assert (row.recall, row.precision, row.cta_recall) == (3 / 6, 3 / 4, 1 / 2)


def grey_image() -> Any:
    from PIL import Image

    return Image.new("RGB", (60, 30), (200, 210, 220))


def test_what_the_worker_reads_is_among_the_pictures() -> None:
    image = grey_image()
    assert np.array_equal(PICTURES["grey 2×"](image), grey_for_ocr(image, size_for_ocr(*image.size)))


def test_the_known_words_are_those_on_the_picture(tmp_path: Any) -> None:
    creatives = generated(3, 7)
    row = measure(ocr_pytesseract.Reader("eng", 30, tmp_path), PICTURES["grey 2×"], creatives, Row("", ""))
    assert row.precision > 0.7
    assert row.recall > 0.3
    assert row.cpu_seconds > 0.01
    shifted = [(image, words, cta) for (image, *_), (_, words, cta) in itertools.pairwise(creatives)]
    other = measure(ocr_pytesseract.Reader("eng", 30, tmp_path), PICTURES["grey 2×"], shifted, Row("", ""))
    assert other.recall == pytest.approx(0, abs=0.15), "another's words"
