"""Where people look: densities from fixations, and from the places of text on a generated creative.

A map is float32 height×width over the whole picture, stretched as the model sees it. Points are (x, y) in fractions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from training.creatives.values import PhotoPlacement, Region

BLUR = 0.03
"""σ of the density, as a share of the picture's diagonal."""

# Our assumption, in the order that eye tracking on ads reports: headline and price first, brand last. Shares of all
# attention before normalising; the photograph's own share is the root of its area.
TEXT_PULL = {"headline": 0.3, "price": 0.14, "cta": 0.14, "body": 0.12, "brand": 0.06}


def density(
    points: NDArray[np.floating[Any]], height: int, width: int, aspect: float
) -> NDArray[np.float32]:  # fmt: skip
    """Fixations N×2 as a blurred histogram that sums to 1; zeros without points. `aspect` is width ÷ height."""
    counts = np.zeros((height, width), np.float32)
    inside = points[((points >= 0) & (points < 1)).all(1)]
    np.add.at(counts, ((inside[:, 1] * height).astype(int), (inside[:, 0] * width).astype(int)), 1)
    blurred = gaussian_filter(counts, _sigma(height, width, aspect), mode="constant")
    total = blurred.sum()
    return blurred / total if total > 0 else blurred


def creative_density(
    points: NDArray[np.floating[Any]],
    placement: PhotoPlacement,
    regions: Sequence[Region],
    side: int,
    aspect: float,
) -> NDArray[np.float32]:
    """The assumed density of a generated creative, side×side: the photograph's own fixations where it stands, mixed
    with its text regions by TEXT_PULL. Sums to 1."""
    photo = density(place(points, placement), side, side, aspect)
    mixed = photo * np.sqrt(placement.box.w * placement.box.h)
    for region in regions:
        filled = np.zeros((side, side), np.float32)
        left, top, right, bottom = region.box.pixels(side, side)
        filled[top : max(bottom, top + 1), left : max(right, left + 1)] = 1
        blurred = gaussian_filter(filled, _sigma(side, side, aspect), mode="constant")
        mixed += TEXT_PULL[region.label] * blurred / max(float(blurred.sum()), 1e-6)
    return (mixed / max(float(mixed.sum()), 1e-6)).astype(np.float32)


def place(points: NDArray[np.floating[Any]], placement: PhotoPlacement) -> NDArray[np.float32]:
    """Fixations on a photograph → on the creative that shows its crop; those outside of the crop are dropped."""
    crop, box = placement.crop, placement.box
    inner = (points - (crop.x, crop.y)) / (crop.w, crop.h)
    inner = inner[((inner >= 0) & (inner < 1)).all(1)]
    if placement.flipped:
        inner = np.stack([1 - inner[:, 0], inner[:, 1]], 1)
    return (inner * (box.w, box.h) + (box.x, box.y)).astype(np.float32)


def centre_bias(height: int, width: int, spread: float = 0.28) -> NDArray[np.float32]:
    """A Gaussian in the middle, σ a share of each side; sums to 1. The least that a heatmap must beat."""
    y = np.exp(-0.5 * (((np.arange(height) + 0.5) / height - 0.5) / spread) ** 2)
    x = np.exp(-0.5 * (((np.arange(width) + 0.5) / width - 0.5) / spread) ** 2)
    both = np.outer(y, x)
    return (both / both.sum()).astype(np.float32)


def spectral_residual(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    """Hou and Zhang's spectral residual (2007) of uint8 H×W×3 at 64×64, resized to height×width; sums to 1."""
    grey = np.asarray(Image.fromarray(image).convert("L").resize((64, 64), Image.Resampling.BILINEAR), np.float64)
    spectrum = np.fft.fft2(grey)
    logs = np.log(np.abs(spectrum) + 1e-9)
    padded = np.pad(logs, 1, mode="edge")
    smooth = sum(padded[i : i + 64, j : j + 64] for i in range(3) for j in range(3)) / 9
    residual = np.abs(np.fft.ifft2(np.exp(logs - smooth + 1j * np.angle(spectrum)))) ** 2
    return resize(gaussian_filter(residual, 2.5).astype(np.float32), height, width)


def resize(heat: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """A map at another size, bilinear; sums to 1."""
    resized = np.asarray(Image.fromarray(heat, "F").resize((width, height), Image.Resampling.BILINEAR), np.float32)
    resized = np.clip(resized, 0, None)
    return resized / max(float(resized.sum()), 1e-12)


def _sigma(height: int, width: int, aspect: float) -> tuple[float, float]:
    """BLUR of the true picture's diagonal, in rows and columns of a stretched map."""
    diagonal = np.hypot(aspect, 1.0)
    return (float(BLUR * diagonal * height), float(BLUR * diagonal * width / aspect))
