"""Colours: WCAG contrast, names, colourfulness, palettes. A colour is (r, g, b), 0–255."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from training.creatives.vocabulary import COLOURS

Colour = tuple[int, int, int]


def luminance(colour: Colour) -> float:
    """WCAG 2 relative luminance in [0, 1]."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: Colour, other: Colour) -> float:
    """WCAG 2 contrast ratio, 1 (none) to 21 (black on white)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def contrast_quality(ratio: float) -> float:
    """A contrast ratio on [0, 1]: 1 → 0, 7 (WCAG's AAA) and above → 1, logarithmic between."""
    return float(min(1.0, np.log(ratio) / np.log(7.0)))


def colourfulness(pixels: NDArray[np.uint8]) -> float:
    """Hasler and Süsstrunk's M3 of H×W×3 pixels: 0 grey, about 60 quite colourful, over 100 extremely."""
    r, g, b = (pixels[..., i].astype(np.float32) for i in range(3))
    rg, yb = r - g, (r + g) / 2 - b
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


def from_hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour from HSV, each in [0, 1] (the hue wraps)."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return (round(r * 255), round(g * 255), round(b * 255))


def readable_on(background: Colour) -> Colour:
    """Near-black or white, whichever stands out more."""
    return max(((20, 20, 24), (255, 255, 255)), key=lambda ink: contrast(ink, background))


def blend(one: Colour, other: Colour, share: float) -> Colour:
    """`share` of `other` in `one`."""
    r, g, b = (round(a + (z - a) * share) for a, z in zip(one, other, strict=True))
    return (r, g, b)


def names_of(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Index into COLOURS of every pixel, by HSV ranges."""
    scaled = pixels.reshape(-1, 3).astype(np.float32) / 255
    high, low = scaled.max(1), scaled.min(1)
    spread = high - low
    saturation = np.where(high > 0, spread / np.maximum(high, 1e-6), 0)
    r, g, b = scaled.T
    safe = np.maximum(spread, 1e-6)
    hue = np.select([high == r, high == g], [((g - b) / safe) % 6, (b - r) / safe + 2], (r - g) / safe + 4) * 60
    edges = (15, 42, 68, 165, 260, 295, 345)  # red | orange | yellow | green | blue | purple | pink | red
    by_hue = np.array([3, 4, 5, 6, 7, 8, 9, 3])[np.digitize(hue, edges)]
    by_hue = np.where((by_hue == 4) & (high < 0.65), COLOURS.index("brown"), by_hue)
    by_hue = np.where((by_hue == 3) & (saturation < 0.5) & (high > 0.7), COLOURS.index("pink"), by_hue)
    greys = np.select([high < 0.2, high > 0.82], [0, 2], 1)
    return np.where((saturation < 0.18) | (high < 0.2), greys, by_hue).astype(np.int64)


def dominant(pixels: NDArray[np.uint8]) -> str:
    """The name of the colour that most pixels have; blacks, greys and whites count half, as in people's naming."""
    counts = np.bincount(names_of(pixels), minlength=len(COLOURS)).astype(np.float64)
    counts[:3] *= 0.5
    return COLOURS[int(counts.argmax())]
