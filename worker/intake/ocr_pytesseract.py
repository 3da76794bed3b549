"""Tesseract as a program that is started for each image: needs nothing but the system's package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytesseract
from numpy.typing import NDArray

from admodels.contract.ocr import CONFIG, Word, words_of_table
from worker.errors import OcrMissingError
from worker.intake import tessdata


class Reader:
    """Hands images over in an uncompressed PGM file in `own`, a folder that the child's end removes.

    Raises OcrMissingError with the mend.
    """

    def __init__(self, languages: str, seconds: float, own: Path) -> None:
        self._languages, self._seconds = languages, seconds
        self._file = own / "image.pgm"
        try:
            version = str(pytesseract.get_tesseract_version())
        except (pytesseract.TesseractNotFoundError, pytesseract.TesseractError, OSError, SystemExit):
            raise OcrMissingError(
                "tesseract is not there; install it (on Debian: apt-get install tesseract-ocr)"
            ) from None
        self.identity = f"tesseract-{version} {languages}-{tessdata.digest(tessdata.folder(), languages)} {CONFIG}"

    def read(self, grey: NDArray[np.uint8]) -> list[Word]:
        """The words of a uint8 H×W image. Raises TimeoutError, or ChildProcessError where Tesseract fails."""
        height, width = grey.shape
        self._file.write_bytes(b"P5\n%d %d\n255\n" % (width, height) + grey.tobytes())
        try:
            table = pytesseract.image_to_data(
                str(self._file), self._languages, CONFIG, output_type=pytesseract.Output.DICT, timeout=self._seconds
            )
        except pytesseract.TesseractError as error:
            raise ChildProcessError(f"tesseract ended with {error.status}") from None
        except RuntimeError:  # pytesseract's time-out, which has killed the process
            raise TimeoutError from None
        return words_of_table(table)
