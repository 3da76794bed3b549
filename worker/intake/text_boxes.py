"""Where lines of text are: a detector's map of probabilities → rotated rectangles.

The post-processing of DB (Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", 2020) with
PP-OCR's thresholds, in NumPy alone. It differs from PaddleOCR's in one point: holes of a shape are no shapes.

Legend: H, W of the map; R runs (unbroken pieces of rows); P points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VERSION = "db-1"
"""Part of OCR's identity in the cache: change it with anything that changes a rectangle."""

THRESHOLD = 0.3
MIN_SCORE = 0.5
UNCLIP = 1.6
MIN_SIDE = 3.0
MAX_BOXES = 200
"""An ad has a few dozen lines; a hostile picture must not have thousands."""

Numbers = NDArray[np.int64]
_ENOUGH = 4 * MAX_BOXES
"""Shapes that are looked at, the largest first."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Centre, half extents and the direction of the longer reading axis (a unit vector), in pixels of the map."""

    x: float
    y: float
    half_width: float
    half_height: float
    along: tuple[float, float]

    @property
    def across(self) -> tuple[float, float]:
        """From the top to the bottom of the line."""
        return (-self.along[1], self.along[0])

    def scaled(self, x: float, y: float) -> Rectangle:
        """The same place on a picture that is x times as wide and y times as high (about the same factors)."""
        along = np.array([self.along[0] * x, self.along[1] * y])
        across = np.array([self.across[0] * x, self.across[1] * y])
        length, depth = float(np.hypot(*along)), float(np.hypot(*across))
        return Rectangle(
            (self.x + 0.5) * x - 0.5,
            (self.y + 0.5) * y - 0.5,
            self.half_width * length,
            self.half_height * depth,
            (float(along[0] / length), float(along[1] / length)),
        )


def rectangles(probabilities: NDArray[np.float32]) -> list[Rectangle]:
    """The lines in an H×W map, largest shapes first, at most MAX_BOXES."""
    found: list[Rectangle] = []
    for points in _shapes(_grown(probabilities > THRESHOLD)):
        tight = _smallest_rectangle(points)
        if 2 * min(tight.half_width, tight.half_height) < MIN_SIDE or _score(probabilities, tight) < MIN_SCORE:
            continue
        width, height = 2 * tight.half_width, 2 * tight.half_height
        margin = width * height * UNCLIP / (2 * (width + height))
        found.append(Rectangle(tight.x, tight.y, tight.half_width + margin, tight.half_height + margin, tight.along))
        if len(found) == MAX_BOXES:
            break
    return found


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Each pixel also takes the one right, below, and right below it, as a 2×2 dilation does."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:, 1:] |= mask[:, :-1]
    grown[1:, 1:] |= mask[:-1, :-1]
    return grown


def _shapes(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Per 8-connected shape the first and the last pixel of its rows (P×2, x and y); the largest shapes first."""
    width = mask.shape[1]
    edges = np.flatnonzero(np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1))  # over H×(W+1)
    row, column = np.divmod(edges, width + 1)
    rows, first, last = row[::2], column[::2], column[1::2] - 1  # R each
    if not len(rows):
        return []
    label = _labels(rows, first, last, width)
    order = np.argsort(label, kind="stable")
    begins = np.flatnonzero(np.diff(label[order], prepend=-1))
    pixels = np.add.reduceat((last - first + 1)[order], begins)
    ends = np.append(begins[1:], len(order))
    shapes = []
    for shape in np.argsort(-pixels, kind="stable")[:_ENOUGH]:
        runs = order[begins[shape] : ends[shape]]
        x, y = np.concatenate([first[runs], last[runs]]), np.concatenate([rows[runs], rows[runs]])
        shapes.append(np.stack([x, y], axis=1).astype(np.float64))
    return shapes


def _labels(rows: Numbers, first: Numbers, last: Numbers, width: int) -> Numbers:
    """Per run the number of a run of the same shape, one for all of the shape."""
    stride = width + 2
    # Of the next row, the runs from the first that ends at or behind our start − 1 to the last that begins at or
    # before our end + 1.
    low = np.searchsorted(rows * stride + last, (rows + 1) * stride + first - 1, side="left")
    high = np.searchsorted(rows * stride + first, (rows + 1) * stride + last + 1, side="right")
    counts = np.maximum(high - low, 0)
    upper = np.repeat(np.arange(len(rows)), counts)
    lower = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
    parent = np.arange(len(rows))
    while True:
        here, there = parent[upper], parent[lower]
        if np.array_equal(here, there):
            return parent
        least = np.minimum(here, there)
        np.minimum.at(parent, here, least)
        np.minimum.at(parent, there, least)
        while not np.array_equal(parent, parent[parent]):
            parent = parent[parent]


def _smallest_rectangle(points: NDArray[np.float64]) -> Rectangle:
    """The rectangle of least area around points (P×2): one of its sides lies on a side of their convex hull."""
    hull = _hull(points)
    sides = np.roll(hull, -1, axis=0) - hull
    angles = np.unique(np.round(np.arctan2(sides[:, 1], sides[:, 0]) % (np.pi / 2), 9))
    along = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    u, v = hull @ along.T, hull @ across.T  # P×angles
    sizes = np.ptp(u, axis=0) * np.ptp(v, axis=0)
    best = int(np.argmin(sizes))
    middle_u, middle_v = (np.max(part[:, best]) / 2 + np.min(part[:, best]) / 2 for part in (u, v))
    x, y = middle_u * along[best] + middle_v * across[best]
    half_u, half_v = np.ptp(u[:, best]) / 2, np.ptp(v[:, best]) / 2
    direction = along[best]
    # Of the two axes the one that is closer to the horizontal is read along.
    if abs(direction[0]) < abs(direction[1]):
        half_u, half_v, direction = half_v, half_u, np.array([direction[1], -direction[0]])
    if direction[0] < 0:
        direction = -direction
    return Rectangle(float(x), float(y), float(half_u), float(half_v), (float(direction[0]), float(direction[1])))


def _hull(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convex hull by Andrew's chains, counter-clockwise; the points themselves where they lie on a line."""
    ordered = np.unique(points, axis=0)

    def chain(sequence: NDArray[np.float64]) -> list[tuple[float, float]]:
        kept: list[tuple[float, float]] = []
        for x, y in sequence.tolist():
            while len(kept) > 1:
                (ax, ay), (bx, by) = kept[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    hull = [*chain(ordered), *chain(ordered[::-1])]
    return np.array(hull) if hull else ordered


def _score(probabilities: NDArray[np.float32], box: Rectangle) -> float:
    """Mean probability inside a rectangle."""
    reach_x = abs(box.along[0]) * box.half_width + abs(box.across[0]) * box.half_height
    reach_y = abs(box.along[1]) * box.half_width + abs(box.across[1]) * box.half_height
    top, bottom = max(0, int(box.y - reach_y)), int(box.y + reach_y) + 2
    left, right = max(0, int(box.x - reach_x)), int(box.x + reach_x) + 2
    part = probabilities[top:bottom, left:right]
    dy, dx = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
    dx, dy = dx - box.x, dy - box.y
    inside = np.abs(dx * box.along[0] + dy * box.along[1]) <= box.half_width + 0.5
    inside &= np.abs(dx * box.across[0] + dy * box.across[1]) <= box.half_height + 0.5
    return float(part[inside].mean()) if inside.any() else 0.0
