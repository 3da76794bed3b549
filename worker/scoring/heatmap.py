"""Attention maps: the compact grid that travels in the event, and the picture that people see.

Legend: H×W the model's map, G×K the event's grid (rows × columns, at most 48×48).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_CELLS = 48
ENCODING = "u8-base64"
# Inferno at nine evenly spaced points; dark to bright also for those who can't tell red from green.
_INFERNO = (
    *((0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85)),
    *((227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164)),
)
_LOUDEST = 0.78
"""Opacity of the hottest cell; the coldest is clear, so that the creative stays readable below."""


def encode(values: NDArray[Any]) -> dict[str, Any]:
    """A map (H×W, finite, ≥ 0, any scale) as the event's part: the hottest cell is 255.

    A map larger than the grid is averaged by area, so that no fixation between samples is lost.
    Raises ValueError for what is no finite non-negative map.
    """
    heat: NDArray[Any] = np.asarray(values, dtype=np.float32)
    if heat.ndim != 2 or not heat.size:
        raise ValueError(f"a heatmap has rows and columns, this has shape {heat.shape}")
    rows, columns = (min(MAX_CELLS, side) for side in heat.shape)
    if heat.shape != (rows, columns):
        heat = _averages(heat.shape[0], rows) @ heat @ _averages(heat.shape[1], columns).T  # G×H · H×W · W×K
    peak, least = float(heat.max()), float(heat.min())
    if not (np.isfinite(peak) and np.isfinite(least)) or least < 0:
        raise ValueError(f"a heatmap's values are finite and not negative, these reach from {least} to {peak}")
    cells = np.rint(heat * (255.0 / peak)).astype(np.uint8) if peak > 0 else np.zeros(heat.shape, np.uint8)
    return {"grid": [rows, columns], "encoding": ENCODING, "values": base64.b64encode(cells.tobytes()).decode("ascii")}


def decode(part: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The event's part as cells, uint8 G×K. Raises ValueError for a part that isn't one."""
    rows, columns = part["grid"]
    cells = np.frombuffer(base64.b64decode(part["values"], validate=True), dtype=np.uint8)
    if part["encoding"] != ENCODING or cells.size != rows * columns:
        raise ValueError(f"no heatmap: encoding {part['encoding']!r}, {cells.size} cells for {rows}×{columns}")
    return cells.reshape(rows, columns)


def layer(part: Mapping[str, Any], width: int, height: int) -> Image.Image:
    """The heatmap as a picture to lay over the creative: RGBA, width×height pixels, clear where nobody looks."""
    smooth = Image.fromarray(decode(part)).resize((width, height), Image.Resampling.BICUBIC)
    return Image.fromarray(_palette()[np.asarray(smooth)])


def overlay(image: Image.Image, part: Mapping[str, Any]) -> Image.Image:
    """The creative (RGB) with its heatmap over it, RGB of the same size."""
    heat = layer(part, *image.size)
    return Image.alpha_composite(image.convert("RGBA"), heat).convert("RGB")


@lru_cache(maxsize=16)
def _averages(size: int, cells: int) -> NDArray[np.float32]:
    """cells×size matrix that averages `size` samples into `cells` by area; each row sums to 1."""
    edges = np.linspace(0, size, cells + 1)
    starts = np.arange(size)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    weights = np.clip(overlap, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@lru_cache(maxsize=1)
def _palette() -> NDArray[np.uint8]:
    """256×4 RGBA by cell value."""
    anchors = np.linspace(0, 255, len(_INFERNO))
    colours = [np.interp(np.arange(256), anchors, channel) for channel in np.array(_INFERNO, dtype=float).T]
    opacity = 255 * _LOUDEST * (np.arange(256) / 255) ** 0.7
    return np.rint(np.stack([*colours, opacity], axis=1)).astype(np.uint8)
