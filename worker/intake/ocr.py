"""Text in images: a pool of processes around an OCR engine, and what is kept of its reading, whichever it is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from admodels.contract.ocr import MIN_CONFIDENCE, PREPROCESSING, Word, lines_of_words, text_of_lines
from worker.errors import FatalError, OcrError
from worker.intake import ocr_child
from worker.intake.child import ChildDiedError, ChildHungError
from worker.intake.children import ChildPool
from worker.intake.cut import MAX_OCR_BYTES, cut_utf8
from worker.types import OcrBox, OcrResult

ENGINES = ("pytesseract", "tesserocr", "rapidocr")
MAX_BOXES = 100
MAX_BOX_CHARACTERS = 64

_GRACE_SECONDS = 5.0
"""For the child of `pytesseract`, which ends the program that it started itself."""
_GRACE_IN_CHILD_SECONDS = 1.0
"""For the others, which can't always be interrupted: then it is the child that ends."""
_PASSED = ("TESSDATA_PREFIX", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
_MEMORY_FOLDER = "/dev/shm"  # noqa: S108  # a folder of our own is made inside


class OcrPool:
    """Reads in `workers` child processes, one core each. Thread-safe; `read` blocks for a free child.

    engine: `pytesseract` (Tesseract as a program), `tesserocr` (the same in the child itself; an extra) or `rapidocr`
        (PP-OCR's models; an extra. It reads all its languages and knows no `languages`).

    Raises ValueError for an unknown engine, FatalError (exit 3) with the mend where the engine, its models or a
    language are missing.
    """

    identity: str
    """Engine, its version, data or models, and preprocessing: part of the cache's digests."""

    def __init__(
        self, workers: int, engine: str = "pytesseract", languages: str = "eng", timeout_seconds: float = 10.0
    ) -> None:
        if engine not in ENGINES:
            raise ValueError(f"OCR engine {engine!r}: choose one of {', '.join(ENGINES)}")
        self._timeout_seconds = timeout_seconds
        self._grace_seconds = _GRACE_SECONDS if engine == "pytesseract" else _GRACE_IN_CHILD_SECONDS
        in_memory = os.access(_MEMORY_FOLDER, os.W_OK | os.X_OK)
        self._folder = tempfile.mkdtemp(prefix="adscore-ocr-", dir=_MEMORY_FOLDER if in_memory else None)
        environment = {"OMP_THREAD_LIMIT": "1"}  # two threads each for two processes: 0.05 images/s instead of 7
        environment |= {name: os.environ[name] for name in _PASSED if name in os.environ}
        arguments = [engine, languages, str(timeout_seconds), self._folder]
        try:
            self._children = ChildPool("worker.intake.ocr_child", workers, arguments=arguments, environment=environment)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        ready = self._children.ready
        if "problem" in ready:
            self.close()
            raise FatalError(f"OCR: {ready['problem']}", exit_code=3)
        self.identity = f"{engine} {ready['identity']} min-{MIN_CONFIDENCE:g} {PREPROCESSING}"

    def read(self, image: NDArray[np.uint8]) -> OcrResult:
        """Read a grey uint8 H×W image. Raises OcrError."""
        height, width = image.shape
        request = ocr_child.request_parts(height, width, np.ascontiguousarray(image).reshape(-1).data)
        try:
            head = self._children.ask(request, self._timeout_seconds + self._grace_seconds).head
        except ChildHungError:
            raise OcrError("ocr_timeout", f"OCR took over {self._timeout_seconds:g} s") from None
        except ChildDiedError:
            raise OcrError("ocr_failed", "OCR's process died") from None
        if "code" in head:
            raise OcrError(head["code"], head["message"])
        return reading(head["words"], height, width)

    def pids(self) -> list[int]:
        """The children's process ids."""
        return self._children.pids()

    def close(self) -> None:
        """End the children, and what they run."""
        self._children.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def reading(words: Sequence[Word], height: int, width: int) -> OcrResult:
    """What is kept of an engine's words on a height×width image.

    Words below MIN_CONFIDENCE go. Text: lines from the top down and from the left, at most 8 KiB. Confidence: the mean
    over the words, None without any. Boxes: the first 100 words of the text.
    """
    ordered = lines_of_words(words)
    kept = [word for line in ordered for word in line]
    if not kept:
        return OcrResult("")
    return OcrResult(
        text=cut_utf8(text_of_lines(ordered), MAX_OCR_BYTES),
        confidence=round(sum(word[1] for word in kept) / len(kept) / 100, 4),
        boxes=tuple(_box(word, height, width) for word in kept[:MAX_BOXES]),
    )


def _box(word: Sequence[Any], height: int, width: int) -> OcrBox:
    text, _, left, top, wide, high, _ = word
    x, y = min(max(left / width, 0.0), 1.0), min(max(top / height, 0.0), 1.0)
    return OcrBox(
        text=text.strip()[:MAX_BOX_CHARACTERS],
        x=round(x, 4),
        y=round(y, 4),
        w=round(min(wide / width, 1.0 - x), 4),
        h=round(min(high / height, 1.0 - y), 4),
    )
