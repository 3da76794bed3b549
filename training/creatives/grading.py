"""What happens to the pixels: a mood, an enhanced and a degraded variant. Images are RGB; sizes stay."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter


def mood(photo: Image.Image, value: float) -> Image.Image:
    """Grade a photograph from −1 (dark, cold, drained) over 0 (unchanged) to 1 (bright, warm, vivid)."""
    graded = ImageEnhance.Color(photo).enhance(1 + 0.6 * value)
    graded = ImageEnhance.Brightness(graded).enhance(1 + 0.3 * value)
    pixels = np.asarray(graded, np.float32) * np.array([1 + 0.12 * value, 1.0, 1 - 0.14 * value], np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def enhanced(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The positive of the contrastive loss: mild contrast, saturation and sharpness."""
    better = ImageEnhance.Contrast(image).enhance(rng.uniform(1.03, 1.12))
    better = ImageEnhance.Color(better).enhance(rng.uniform(1.03, 1.15))
    return ImageEnhance.Sharpness(better).enhance(rng.uniform(1.1, 1.5))


def degraded(image: Image.Image, rng: np.random.Generator, strength: float = 1.0) -> Image.Image:
    """The negative of the contrastive loss, and what attractiveness falls with.

    Two of blur, noise, colour cast, JPEG artefacts and occlusion, each scaled by `strength` in (0, 1].
    """
    worse = image
    for kind in rng.choice(5, size=2, replace=False):
        worse = (_blur, _noise, _cast, _artefacts, _occlusion)[int(kind)](worse, rng, strength)
    return worse


def _blur(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    # Relative to the size, so that a leaderboard and a full-screen story are spoilt alike.
    radius = max(0.6, min(image.size) / 300 * rng.uniform(1.5, 3.0) * strength)
    return image.filter(ImageFilter.GaussianBlur(radius))


def _noise(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    pixels = np.asarray(image, np.float32)
    grain = rng.standard_normal(pixels.shape[:2], np.float32)[..., None] * np.float32(rng.uniform(18, 40) * strength)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def _cast(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    gains = 1 + rng.uniform(-0.45, 0.25, 3) * strength
    return Image.fromarray(np.clip(np.asarray(image, np.float32) * gains, 0, 255).astype(np.uint8))


def _artefacts(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    small = image.resize([max(8, round(side * (1 - 0.6 * strength))) for side in image.size])
    packed = io.BytesIO()
    small.save(packed, "JPEG", quality=int(rng.integers(6, 16)))
    with Image.open(packed) as opened:
        return opened.convert("RGB").resize(image.size)


def _occlusion(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    worse = image.copy()
    draw = ImageDraw.Draw(worse)
    width, height = image.size
    for _ in range(2):
        w, h = (rng.uniform(0.12, 0.28, 2) * strength) * (width, height)
        x, y = rng.uniform(0, 1, 2) * (width - w, height - h)
        draw.rectangle((x, y, x + w, y + h), fill=tuple(int(c) for c in rng.integers(60, 190, 3)))
    return worse
