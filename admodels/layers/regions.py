"""Regions of an image, pooled from its feature maps. B batch, R regions, C channels.

Boxes are x0, y0, x1, y1 as fractions of the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

GRID_SCALES = (2, 3)
"""Where no detector looks: the quarters of the image, then its ninths."""


def grid_boxes(scales: Sequence[int] = GRID_SCALES) -> Tensor:
    """The boxes of a fixed multi-scale grid, coarse before fine, row by row: float32 R×4."""
    boxes = [
        (column / s, row / s, (column + 1) / s, (row + 1) / s)
        for s in scales
        for row in range(s)
        for column in range(s)
    ]
    return torch.tensor(boxes)


def pool_regions(features: Tensor, boxes: Tensor) -> Tensor:
    """Mean of a map B×C×h×w over each box B×R×4, cells weighted by how much of them lies inside → B×R×C.

    A box without an area gives zeros. Two products with small matrices: every exporter and engine has them.
    """
    rows = _coverage(boxes[:, :, 1], boxes[:, :, 3], features.shape[2])  # B×R×h
    columns = _coverage(boxes[:, :, 0], boxes[:, :, 2], features.shape[3])  # B×R×w
    across = features @ columns.transpose(1, 2)[:, None]  # B×C×h×R
    return (across * rows.transpose(1, 2)[:, None]).sum(2).transpose(1, 2)


def crop_regions(image: Tensor, boxes: Tensor) -> Tensor:
    """uint8 B×H×W×3 and boxes B×R×4 → float32 (B·R)×H×W×3: each region stretched to the whole size, bilinear."""
    height, width = image.shape[1:3]
    low, high = boxes.flatten(0, 1).split(2, dim=1)  # (B·R)×2, x before y
    scale, shift = high - low, high + low - 1.0  # of [−1, 1]
    zero = torch.zeros_like(scale[:, 0])
    rows = [
        torch.stack([scale[:, 0], zero, shift[:, 0]], dim=1),
        torch.stack([zero, scale[:, 1], shift[:, 1]], dim=1),
    ]
    theta = torch.stack(rows, dim=1)  # (B·R)×2×3
    grid = functional.affine_grid(theta, [theta.shape[0], 3, height, width], align_corners=False)
    pixels = image.permute(0, 3, 1, 2).float().repeat_interleave(boxes.shape[1], dim=0)
    return functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False).permute(0, 2, 3, 1)


def _coverage(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """B×R edges → B×R×cells, the share of the interval that lies in each cell."""
    edges = torch.arange(cells + 1, device=low.device, dtype=low.dtype) / cells
    inside = torch.minimum(high[:, :, None], edges[1:]) - torch.maximum(low[:, :, None], edges[:-1])
    inside = inside.clamp(min=0.0)
    return inside / inside.sum(2, keepdim=True).clamp(min=1e-6)
