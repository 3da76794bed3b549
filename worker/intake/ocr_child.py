"""OCR's child process: a grey image in, words out. `python -m worker.intake.ocr_child LANGUAGES SECONDS FOLDER`.

A request is height and width (32 bits each) and the pixels, one byte each. Tesseract reads them from an uncompressed
PGM file in FOLDER, which the worker chose and removes.
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
from typing import Any

import pytesseract

from admodels.contract.ocr import CONFIG, words_of_table
from worker.intake.frames import pack, serve

_SIZE = struct.Struct("<II")
_MEMORY_BYTES = 2 * 1024**3
_REMOVALS = 50
_NICENESS = 5  # OCR is what keeps the cores busy; whoever waits for the broker or the engine goes first


def main(arguments: list[str]) -> None:
    """Check the engine, serve."""
    languages, seconds, folder = arguments[0], float(arguments[1]), Path(arguments[2])
    threading.Thread(target=_end_with_the_worker, args=(folder,), daemon=True).start()
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    _sweep(folder)
    own = folder / str(os.getpid())
    own.mkdir()
    tempfile.tempdir = str(own)
    serve(_ready(languages), lambda request: pack(read(request, languages, seconds, own)))
    _leave(folder)


def read(request: memoryview, languages: str, seconds: float, folder: Path) -> dict[str, Any]:
    """`{"words": [[text, confidence, left, top, width, height, line], …]}` in pixels, or `{"code", "message"}`."""
    height, width = _SIZE.unpack_from(request)
    file = folder / "image.pgm"
    try:
        file.write_bytes(b"P5\n%d %d\n255\n" % (width, height) + request[_SIZE.size :])
        table = pytesseract.image_to_data(
            str(file), languages, CONFIG, output_type=pytesseract.Output.DICT, timeout=seconds
        )
    except pytesseract.TesseractError as error:
        return {"code": "ocr_failed", "message": f"tesseract ended with {error.status}"}
    except RuntimeError:  # pytesseract's time-out, which has killed the process
        return {"code": "ocr_timeout", "message": f"tesseract took over {seconds:g} s"}
    except Exception as error:  # noqa: BLE001  # whatever it is, it is this image's OCR that failed
        return {"code": "ocr_failed", "message": f"reading the image failed ({type(error).__name__})"}
    return {"words": words_of_table(table)}


def request_parts(height: int, width: int, pixels: memoryview) -> tuple[bytes, memoryview]:
    """The request for an image: uint8 height×width."""
    return _SIZE.pack(height, width), pixels


def _ready(languages: str) -> dict[str, Any]:
    try:
        version = str(pytesseract.get_tesseract_version())
        missing = sorted(set(languages.split("+")) - set(pytesseract.get_languages()))
    except (pytesseract.TesseractNotFoundError, pytesseract.TesseractError, OSError, SystemExit):
        return {"problem": "tesseract is not there; install it (on Debian: apt-get install tesseract-ocr)"}
    if missing:
        packages = " ".join(f"tesseract-ocr-{name.replace('_', '-')}" for name in missing)
        return {"problem": f"tesseract lacks {', '.join(missing)}; install it (on Debian: apt-get install {packages})"}
    return {"version": version}


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
