"""Feature maps of several strides on one grid. B batch, C channels, maps are square."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Resize(nn.Module):
    """Bilinear resampling B×C×S×S → B×C×T×T, antialiased where it goes down.

    Both passes are products with a constant matrix: the same numbers as `interpolate(antialias=True)`, in an operator
    that every runtime has and runs fast.
    """

    matrix: Tensor | None

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.register_buffer("matrix", None if source == target else _resampling(source, target), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.matrix is None:
            return x
        return self.matrix @ (x @ self.matrix.T)  # T×S @ (B×C×S×S @ S×T)


def _resampling(source: int, target: int) -> Tensor:
    """T×S: row t holds the weights with which source pixels make target pixel t; every row sums to 1."""
    identity = torch.eye(source)[None, None]
    rows = functional.interpolate(identity, size=(target, source), mode="bilinear", antialias=target < source)
    return rows[0, 0]


class Concatenate(nn.Module):
    """Maps of several sizes → one B×ΣC×T×T on a common grid.

    normalise: standardise every channel over the training data first (a BatchNorm without parameters of its own),
    for frozen encoders whose maps come in any scale.
    """

    def __init__(self, channels: Sequence[int], sizes: Sequence[int], target: int, *, normalise: bool = False) -> None:
        super().__init__()
        self.channels = sum(channels)
        self.resizes = nn.ModuleList(Resize(size, target) for size in sizes)
        self.norm = nn.BatchNorm2d(self.channels, affine=False) if normalise else nn.Identity()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        resized = [resize(m) for resize, m in zip(self.resizes, maps, strict=True)]
        x: Tensor = self.norm(torch.cat(resized, dim=1))
        return x


class MultiScale(nn.Module):
    """Maps of several sizes → B×D×T×T: each projected to D, concatenated and projected again, plus their mean.

    A 1×1 projection and a resampling commute, so whichever leaves less to compute goes first.
    """

    def __init__(
        self, channels: Sequence[int], sizes: Sequence[int], target: int, dim: int, *, normalise: bool = False
    ) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            _scale(c, size, target, dim, normalise=normalise) for c, size in zip(channels, sizes, strict=True)
        )
        self.join = nn.Conv2d(dim * len(channels), dim, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        projected = [scale(m) for scale, m in zip(self.scales, maps, strict=True)]  # each B×D×T×T
        joined: Tensor = self.join(torch.cat(projected, dim=1))
        return joined + torch.stack(projected).mean(0)


class LastScale(nn.Module):
    """The last of several maps alone → B×D×T×T: what the ablations put in place of several scales."""

    def __init__(
        self, channels: Sequence[int], sizes: Sequence[int], target: int, dim: int, *, normalise: bool = False
    ) -> None:
        super().__init__()
        self.scale = _scale(channels[-1], sizes[-1], target, dim, normalise=normalise)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        x: Tensor = self.scale(maps[-1])
        return x


def _scale(channels: int, size: int, target: int, dim: int, *, normalise: bool) -> nn.Sequential:
    resize, project = Resize(size, target), nn.Conv2d(channels, dim, 1)
    norm = nn.BatchNorm2d(channels, affine=False) if normalise else nn.Identity()
    return nn.Sequential(norm, resize, project) if size > target else nn.Sequential(norm, project, resize)
