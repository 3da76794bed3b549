"""Fonts and the setting of a text in a box."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

from training.creatives.colour import Colour

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# The package fonts-dejavu-core. Where it is missing Pillow's own font stands in: the same seed then draws other pixels.
_FOLDER = Path("/usr/share/fonts/truetype/dejavu")
FACES = ("DejaVuSans-Bold", "DejaVuSans", "DejaVuSerif-Bold", "DejaVuSerif", "DejaVuSansMono-Bold")
SMALLEST_PX = 8


@lru_cache(maxsize=512)
def font(face: str, size_px: int) -> Font:
    """A face of FACES at a size in pixels."""
    file = _FOLDER / f"{face}.ttf"
    return ImageFont.truetype(str(file), size_px) if file.exists() else ImageFont.load_default(size_px)


@dataclass(frozen=True)
class Setting:
    """Lines of text at a size that fit a box; `width` and `height` in pixels."""

    lines: tuple[str, ...]
    size_px: int
    width: int
    height: int


def fit(text: str, face: str, width: int, height: int, largest_px: int) -> Setting:
    """The largest setting of `text` within width × height pixels; at SMALLEST_PX it is taken as it comes."""
    low, high = SMALLEST_PX, max(SMALLEST_PX, largest_px)
    best = _set(text, face, low, width)
    while low < high:
        middle = (low + high + 1) // 2
        tried = _set(text, face, middle, width)
        if tried.width <= width and tried.height <= height:
            low, best = middle, tried
        else:
            high = middle - 1
    return best


def draw(canvas: ImageDraw.ImageDraw, at: tuple[int, int], setting: Setting, face: str, ink: Colour) -> None:
    """Draw a setting with its top left corner at `at`."""
    x, y = at
    step = _line_height(setting.size_px)
    for row, line in enumerate(setting.lines):
        canvas.text((x, y + row * step), line, font=font(face, setting.size_px), fill=ink)


def _set(text: str, face: str, size_px: int, width: int) -> Setting:
    used = font(face, size_px)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and used.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    widest = max(round(used.getlength(line)) for line in lines)
    return Setting(tuple(lines), size_px, widest, len(lines) * _line_height(size_px))


def _line_height(size_px: int) -> int:
    return round(size_px * 1.22)
