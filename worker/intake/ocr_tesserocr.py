"""Tesseract as a library in OCR's own process: no start of a program and no file for each image."""

from __future__ import annotations

import numpy as np
import tesserocr
from numpy.typing import NDArray

from admodels.contract.ocr import CONFIG, DPI, PAGE_MODE, Word, words_of_table
from worker.intake import tessdata

_COLUMNS = (
    *("level", "page_num", "block_num", "par_num", "line_num", "word_num", "left", "top", "width", "height"),
    *("conf", "text"),
)
_NUMBERS = _COLUMNS[:10]


class Reader:
    """One engine, loaded once. Raises OcrMissingError with the mend."""

    def __init__(self, languages: str, seconds: float) -> None:
        data = tessdata.folder()
        version = tesserocr.tesseract_version().split()[1]
        self.identity = f"tesseract-{version} {languages}-{tessdata.digest(data, languages)} {CONFIG}"
        self._milliseconds = max(1, int(1000 * seconds))
        self._api = tesserocr.PyTessBaseAPI(path=str(data), lang=languages, psm=PAGE_MODE)

    def read(self, grey: NDArray[np.uint8]) -> list[Word]:
        """The words of a uint8 H×W image. Raises TimeoutError over its time."""
        height, width = grey.shape
        try:
            self._api.SetImageBytes(grey.tobytes(), width, height, 1, width)
            self._api.SetSourceResolution(DPI)
            if not self._api.Recognize(self._milliseconds):
                raise TimeoutError
            return words_of_table(_table(self._api.GetTSVText(0)))
        finally:
            self._api.Clear()
            # What it learned of this image must not change how it reads the next.
            self._api.ClearAdaptiveClassifier()


def _table(tsv: str) -> dict[str, list[object]]:
    rows = [line.split("\t") for line in tsv.splitlines()]
    columns = zip(*(row for row in rows if len(row) == len(_COLUMNS)), strict=True)
    table: dict[str, list[object]] = dict(zip(_COLUMNS, map(list, columns), strict=False))
    return table | {name: [int(str(value)) for value in table[name]] for name in _NUMBERS if name in table}
