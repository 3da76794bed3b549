"""What is written in the image, read by the Tesseract that the worker uses, in the same way (paper: (3))."""

from __future__ import annotations

import os

import pytesseract
from PIL import Image

from admodels.context import ContextUnavailableError
from admodels.contract import ocr


class Ocr:
    """RGB image → its text, lines from the top down; empty where nothing is legible.

    Raises ContextUnavailableError where Tesseract or a language is missing, or it fails on an image.
    """

    def __init__(self, languages: str = "eng", timeout_seconds: float = 10.0) -> None:
        self._languages, self._timeout = languages, timeout_seconds
        # Two threads each for two processes read 0.05 images/s instead of 7.
        os.environ.setdefault("OMP_THREAD_LIMIT", "1")
        try:
            self.identity = f"tesseract-{pytesseract.get_tesseract_version()} {languages} {ocr.PREPROCESSING}"
            missing = sorted(set(languages.split("+")) - set(pytesseract.get_languages()))
        except (pytesseract.TesseractNotFoundError, pytesseract.TesseractError, OSError, SystemExit) as error:
            raise ContextUnavailableError(
                "tesseract is not there; install it (on Debian: apt-get install tesseract-ocr)"
            ) from error
        if missing:
            raise ContextUnavailableError(f"tesseract lacks {', '.join(missing)}; install those languages")

    def __call__(self, rgb: Image.Image) -> str:
        grey = Image.fromarray(ocr.grey_for_ocr(rgb, ocr.size_for_ocr(*rgb.size)))
        try:
            table = pytesseract.image_to_data(
                grey, self._languages, ocr.CONFIG, output_type=pytesseract.Output.DICT, timeout=self._timeout
            )
        except (RuntimeError, OSError) as error:  # TesseractError is a RuntimeError, as is the time-out
            raise ContextUnavailableError(f"tesseract failed on an image ({type(error).__name__})") from error
        return ocr.text_of_lines(ocr.lines_of_words(ocr.words_of_table(table)))
