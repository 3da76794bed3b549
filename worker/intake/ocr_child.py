"""OCR's child process: a grey image in, words out. `python -m worker.intake.ocr_child ENGINE LANGUAGES SECONDS FOLDER`.

A request is height and width (32 bits each) and the pixels, one byte each. FOLDER, which the worker chose, is for the
files that Tesseract as a program reads; it goes with the child.
"""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from admodels.contract.ocr import Word
from worker.errors import OcrMissingError
from worker.intake.frames import pack, serve

_SIZE = struct.Struct("<II")
_MEMORY_BYTES = 2 * 1024**3
_REMOVALS = 50
_NICENESS = 5  # OCR is what keeps the cores busy; whoever waits for the broker or the engine goes first


class Reader(Protocol):
    """One OCR engine, loaded. `identity`: version, data and all else that decides what it reads."""

    identity: str

    def read(self, grey: NDArray[np.uint8]) -> list[Word]:
        """The words of a uint8 H×W image. Raises TimeoutError over its time; anything else is this image's failure."""
        ...


def main(arguments: list[str]) -> None:
    """Load the engine, serve."""
    engine, languages, seconds, folder = arguments[0], arguments[1], float(arguments[2]), Path(arguments[3])
    threading.Thread(target=_end_with_the_worker, args=(folder,), daemon=True).start()
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _sweep(folder)
    own = folder / str(os.getpid())
    own.mkdir()
    tempfile.tempdir = str(own)
    try:
        reader = _reader(engine, languages, seconds, own)
    except OcrMissingError as missing:
        serve({"problem": str(missing)}, lambda _: pack({"code": "ocr_failed", "message": "the engine is missing"}))
    else:
        serve({"identity": reader.identity}, lambda request: pack(answer(reader, request, seconds)))
    _leave(folder)


def answer(reader: Reader, request: memoryview, seconds: float) -> dict[str, Any]:
    """`{"words": …}`, or `{"code", "message"}`. Never raises on any image."""
    height, width = _SIZE.unpack_from(request)
    grey = np.frombuffer(request, np.uint8, height * width, _SIZE.size).reshape(height, width)
    try:
        return {"words": reader.read(grey)}
    except TimeoutError:
        return {"code": "ocr_timeout", "message": f"OCR took over {seconds:g} s"}
    except ChildProcessError as error:
        return {"code": "ocr_failed", "message": str(error)}
    except Exception as error:  # noqa: BLE001  # whatever it is, it is this image's OCR that failed
        return {"code": "ocr_failed", "message": f"reading the image failed ({type(error).__name__})"}


def request_parts(height: int, width: int, pixels: memoryview) -> tuple[bytes, memoryview]:
    """The request for an image: uint8 height×width."""
    return _SIZE.pack(height, width), pixels


def _reader(engine: str, languages: str, seconds: float, own: Path) -> Reader:
    """The engine. What only another one needs is never imported. Raises OcrMissingError with the mend."""
    if engine == "pytesseract":
        from worker.intake import ocr_pytesseract

        _bound_memory()
        return ocr_pytesseract.Reader(languages, seconds, own)
    if engine == "tesserocr":
        try:
            from worker.intake import ocr_tesserocr
        except ImportError:
            raise OcrMissingError(
                "tesserocr is not installed; pip install 'adscore[tesserocr]', or set ADSCORE_OCR__ENGINE=pytesseract"
            ) from None
        _bound_memory()
        return ocr_tesserocr.Reader(languages, seconds)
    from worker.intake import ocr_rapidocr

    if not ocr_rapidocr.on_gpu():  # CUDA maps far more than it uses
        _bound_memory()
    return ocr_rapidocr.Reader(seconds)


def _bound_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _sweep(folder: Path) -> None:
    """Remove what children before this one left when they were killed."""
    for left in folder.iterdir():
        if not Path("/proc", left.name).exists():
            shutil.rmtree(left, ignore_errors=True)


def _end_with_the_worker(folder: Path) -> None:
    """However the worker ends, its end of the pipe closes: take Tesseract and the files along at once."""
    poll = select.poll()
    poll.register(0, 0)  # nothing but the hang-up
    poll.poll()
    _leave(folder)


def _leave(folder: Path) -> None:
    """Remove the files and end the group: this process and Tesseract. Whichever thread comes first does it."""
    for _ in range(_REMOVALS):  # Tesseract or another child may be writing, or removing, at the same time
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(0.02)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
