"""Tesseract's trained data: where it lies, whether the languages are there, and which it is."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

from worker.errors import OcrMissingError

_SAID = re.compile(r'List of available languages in "(.+)" \(\d+\):')
_USUAL = (
    "/usr/share/tesseract-ocr/5/tessdata",
    "/usr/share/tesseract-ocr/4.00/tessdata",
    "/usr/share/tessdata",
    "/usr/local/share/tessdata",
)
_SUFFIX = ".traineddata"


def folder() -> Path:
    """Where TESSDATA_PREFIX, the program, or else custom says. Raises OcrMissingError with the mend."""
    named = Path(os.environ["TESSDATA_PREFIX"]) if "TESSDATA_PREFIX" in os.environ else None
    for place in filter(None, (named, named and named / "tessdata", _programs(), *map(Path, _USUAL))):
        if any(place.glob(f"*{_SUFFIX}")):
            return place
    raise OcrMissingError(
        "Tesseract's trained data is not there; install it (on Debian: apt-get install tesseract-ocr-eng) or set "
        "TESSDATA_PREFIX to its folder"
    )


def digest(data: Path, languages: str) -> str:
    """sha256 (12 hex digits) over the languages' files: a reading depends on them as much as on the program.

    Raises OcrMissingError naming what has to be installed.
    """
    names = languages.split("+")
    if missing := sorted({name for name in names if not (data / (name + _SUFFIX)).is_file()}):
        packages = " ".join(f"tesseract-ocr-{name.lower().replace('_', '-')}" for name in missing)
        raise OcrMissingError(
            f"tesseract lacks {', '.join(missing)}; install it (on Debian: apt-get install {packages}), or change "
            "ADSCORE_OCR__LANGUAGES"
        )
    sums = [hashlib.sha256((data / (name + _SUFFIX)).read_bytes()).digest() for name in names]
    return hashlib.sha256(b"".join(sums)).hexdigest()[:12]


def _programs() -> Path | None:
    """The folder that the program names, if there is one."""
    try:
        said = subprocess.run(["tesseract", "--list-langs"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _SAID.search(said.stdout + said.stderr)
    return Path(found[1]) if found else None
