"""PP-OCR: a detector of lines and a recogniser, as the package `rapidocr` carries them, on our own runners.

Of the package only the two ONNX files are used; none of its code is imported, nor the libraries that it brings.
"""

from __future__ import annotations

import hashlib
import importlib.util
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from admodels.contract.ocr import Word
from admodels.runtime import cuda
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from worker.errors import OcrMissingError
from worker.intake import text_boxes, text_lines
from worker.intake.text_boxes import Rectangle

DETECTOR, RECOGNISER = "PP-OCRv6_det_small", "PP-OCRv6_rec_small"
DETECT_SIDE = 960
_STRIDE = 32
_INSTALL = "pip install 'adscore[rapidocr]', or set ADSCORE_OCR__ENGINE=pytesseract"


class Reader:
    """Both models, loaded once; on the GPU where ONNX Runtime can use one. Raises OcrMissingError with the mend.

    side: the long side at which lines are looked for; they are read from the whole picture.
    """

    def __init__(self, seconds: float, side: int = DETECT_SIDE) -> None:
        self._seconds, self._side = seconds, side
        gpu = on_gpu()
        files = {name: _model(name) for name in (DETECTOR, RECOGNISER)}
        self._detector, self._recogniser = (
            OnnxRuntimeRunner(files[name], threads=0 if gpu else 1, gpu=gpu) for name in (DETECTOR, RECOGNISER)
        )
        alphabet = self._recogniser.metadata.get("character", "").split("\n")
        self._characters = ["", *alphabet, " "]
        blank = np.zeros((1, 3, text_lines.HEIGHT, 320), np.float32)
        if self._recognise(blank).shape[2] != len(self._characters):
            raise OcrMissingError(f"the installed rapidocr's {RECOGNISER} does not name its characters; {_INSTALL}")
        digests = " ".join(f"{name}-{hashlib.sha256(model).hexdigest()[:12]}" for name, model in files.items())
        self.identity = f"{digests} {text_boxes.VERSION} {text_lines.VERSION} side-{side}"

    def read(self, grey: NDArray[np.uint8]) -> list[Word]:
        """The words of a uint8 H×W image. Raises TimeoutError over its time, EngineError where a model fails."""
        deadline = time.monotonic() + self._seconds

        def recognise(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
            if time.monotonic() > deadline:
                raise TimeoutError
            return self._recognise(pixels)

        found = text_lines.words(grey, self._lines(grey), self._characters, recognise)
        if time.monotonic() > deadline:
            raise TimeoutError
        return found

    def _recognise(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        (probabilities,) = self._recogniser.infer({self._recogniser.inputs[0]: pixels}).values()
        return probabilities

    def _lines(self, grey: NDArray[np.uint8]) -> list[Rectangle]:
        """Where there is text, in pixels of `grey`."""
        height, width = grey.shape
        scale = min(1.0, self._side / max(height, width))
        wide, high = (max(_STRIDE, round(side * scale / _STRIDE) * _STRIDE) for side in (width, height))
        small = np.asarray(Image.fromarray(grey).resize((wide, high), Image.Resampling.BILINEAR))
        pixels = np.repeat((small / np.float32(127.5) - np.float32(1))[None, None], 3, axis=1)  # 1×3×high×wide
        (maps,) = self._detector.infer({self._detector.inputs[0]: pixels}).values()
        x, y = width / wide, height / high
        return [box.scaled(x, y) for box in text_boxes.rectangles(maps[0, 0])]


def on_gpu() -> bool:
    """Whether the models run on a GPU here: there is one, and ONNX Runtime is the one for CUDA."""
    return cuda.compute_capability() is not None and OnnxRuntimeRunner.can_use_gpu()


def _model(name: str) -> bytes:
    package = importlib.util.find_spec("rapidocr")
    if package is None or not package.submodule_search_locations:
        raise OcrMissingError(f"rapidocr is not installed; {_INSTALL}")
    file = Path(package.submodule_search_locations[0], "models", f"{name}.onnx")
    try:
        return file.read_bytes()
    except OSError:
        raise OcrMissingError(f"the installed rapidocr has no model {name}; {_INSTALL}") from None
