"""MVLA's visual context as text: providers that say what is seen in an image, each of which may be absent.

A provider is a callable, RGB image → text; "" says nothing. An absent one contributes an empty segment, never a
made-up one. They need the training extra (OpenCV, torch, transformers), but for OCR, and the worker has none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from PIL import Image

Provider = Callable[[Image.Image], str]
SEGMENTS = ("caption", "faces", "ocr")
"""In the order in which they stand behind the copy."""


class ContextUnavailableError(Exception):
    """A provider can't work here. The message says what is missing and how to go on."""


def describe(rgb: Image.Image, providers: Mapping[str, Provider]) -> dict[str, str]:
    """(1)–(3) of MVLA: text by segment, "" where there is no provider. Raises ValueError for an unknown segment."""
    unknown = sorted(set(providers) - set(SEGMENTS))
    if unknown:
        raise ValueError(f"no segment named {unknown[0]!r}; segments are {', '.join(SEGMENTS)}")
    return {name: providers[name](rgb) if name in providers else "" for name in SEGMENTS}
