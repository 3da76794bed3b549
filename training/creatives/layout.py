"""Where things stand on an ad of a given size. Boxes are fractions of the ad."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.creatives.copywriting import pick
from training.creatives.values import Box

# Pixels of the formats that are bought most, with how often each is made: display, mobile, social, stories.
SIZES: tuple[tuple[tuple[int, int], float], ...] = (
    ((300, 250), 0.2),
    ((336, 280), 0.08),
    ((728, 90), 0.1),
    ((970, 250), 0.08),
    ((160, 600), 0.07),
    ((300, 600), 0.08),
    ((320, 50), 0.05),
    ((320, 480), 0.06),
    ((1200, 628), 0.12),
    ((1080, 1080), 0.11),
    ((1080, 1920), 0.05),
)


@dataclass(frozen=True)
class Layout:
    """`slots` maps headline, body, cta, brand and price to their boxes; a slot that is missing isn't drawn.

    `panel` is the coloured ground behind the text; with `overlay` it lies on the photograph as a scrim.
    """

    name: str
    photo: Box
    panel: Box
    slots: dict[str, Box]
    overlay: bool = False


def size(rng: np.random.Generator) -> tuple[int, int]:
    """An ad size in pixels, (width, height)."""
    weights = np.array([weight for _, weight in SIZES])
    return SIZES[int(rng.choice(len(SIZES), p=weights / weights.sum()))][0]


def plan(rng: np.random.Generator, width: int, height: int) -> Layout:
    """A layout that suits the ad's shape."""
    if width > 3 * height:
        return _banner(rng, width, height)
    if height > 1.9 * width:
        return _column(rng, 0.42 if height > 3 * width else 0.5)
    return pick(rng, (_split, _overlay, _stack, _framed))(rng)


def _banner(rng: np.random.Generator, width: int, height: int) -> Layout:
    side = min(0.34, rng.uniform(1.2, 2.2) * height / width)
    left = 0.0 if rng.random() < 0.6 else 1 - side
    start = side + 0.015 if left == 0 else 0.015
    end = 1.0 if left == 0 else 1 - side
    button, small = 0.17, height < 80
    slots = {"headline": Box(start, 0.1, end - start - button - 0.02, 0.8 if small else 0.48)}
    slots["cta"] = Box(end - button, 0.2 if small else 0.14, button - 0.015, 0.6 if small else 0.4)
    slots["brand"] = Box(end - button, 0.82 if small else 0.66, button - 0.015, 0.16 if small else 0.22)
    if not small:
        slots["body"] = Box(start, 0.62, end - start - button - 0.02, 0.3)
    if height >= 200:
        slots["price"] = Box(side * 0.6 if left == 0 else left, 0.05, 0.32 * height / width, 0.32)
    return Layout("banner", Box(left, 0, side, 1), Box(start - 0.015, 0, end - start + 0.015, 1), slots)


def _column(rng: np.random.Generator, share: float) -> Layout:
    top = rng.random() < 0.7
    y = share if top else 0.0
    rest = 1 - share
    slots = {
        "brand": Box(0.07, y + 0.03 * rest, 0.86, 0.08 * rest),
        "headline": Box(0.07, y + 0.14 * rest, 0.86, 0.4 * rest),
        "body": Box(0.07, y + 0.56 * rest, 0.86, 0.22 * rest),
        "cta": Box(0.1, y + 0.82 * rest, 0.8, 0.13 * rest),
        "price": Box(0.55, (0 if top else rest) + 0.03, 0.4, 0.13 if share < 0.45 else 0.17),
    }
    return Layout("column", Box(0, 0 if top else rest, 1, share), Box(0, y, 1, rest), slots)


def _split(rng: np.random.Generator) -> Layout:
    share = rng.uniform(0.4, 0.56)
    left = rng.random() < 0.5
    x = share if left else 0.0
    rest = 1 - share
    inner, width = x + 0.07 * rest, 0.86 * rest
    slots = {
        "brand": Box(inner, 0.06, width, 0.09),
        "headline": Box(inner, 0.19, width, 0.36),
        "body": Box(inner, 0.58, width, 0.2),
        "cta": Box(inner, 0.82, width * 0.85, 0.12),
        "price": Box(0.03 if left else rest + 0.03, 0.04, 0.2, 0.22),
    }
    return Layout("split", Box(0 if left else rest, 0, share, 1), Box(x, 0, rest, 1), slots)


def _overlay(rng: np.random.Generator) -> Layout:
    top = rng.random() < 0.3
    y = 0.0 if top else 0.52
    slots = {
        "headline": Box(0.06, y + 0.04, 0.88, 0.2),
        "body": Box(0.06, y + 0.26, 0.6, 0.16),
        "cta": Box(0.68, y + 0.3, 0.27, 0.11),
        "brand": Box(0.06, 0.88 if top else 0.05, 0.4, 0.08),
        "price": Box(0.75, 0.62 if top else 0.06, 0.2, 0.22),
    }
    return Layout("overlay", Box(0, 0, 1, 1), Box(0, y, 1, 0.48), slots, overlay=True)


def _stack(rng: np.random.Generator) -> Layout:
    share = rng.uniform(0.48, 0.6)
    rest = 1 - share
    slots = {
        "headline": Box(0.05, share + 0.06 * rest, 0.9, 0.4 * rest),
        "body": Box(0.05, share + 0.52 * rest, 0.56, 0.42 * rest),
        "cta": Box(0.66, share + 0.56 * rest, 0.29, 0.3 * rest),
        "brand": Box(0.04, 0.04, 0.34, 0.08),
        "price": Box(0.76, 0.05, 0.2, 0.22),
    }
    return Layout("stack", Box(0, 0, 1, share), Box(0, share, 1, rest), slots)


def _framed(rng: np.random.Generator) -> Layout:
    x = 0.06 if rng.random() < 0.5 else 0.48
    other = 0.52 if x < 0.1 else 0.05
    slots = {
        "headline": Box(other, 0.1, 0.43, 0.34),
        "body": Box(other, 0.48, 0.43, 0.24),
        "cta": Box(other, 0.78, 0.34, 0.12),
        "brand": Box(x, 0.84, 0.42, 0.1),
        "price": Box(x + 0.02, 0.13, 0.17, 0.19),
    }
    return Layout("framed", Box(x, 0.1, 0.42, 0.7), Box(0, 0, 1, 1), slots)
