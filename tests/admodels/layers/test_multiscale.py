from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from admodels.layers.multiscale import Concatenate, MultiScale, Resize


@pytest.mark.parametrize(("source", "target"), [(48, 12), (24, 12), (7, 14), (14, 9), (12, 12), (32, 64)])
def test_resize_is_torchs_antialiased_bilinear(source: int, target: int) -> None:
    x = torch.randn(2, 3, source, source)
    expected = functional.interpolate(x, size=(target, target), mode="bilinear", antialias=target < source)
    torch.testing.assert_close(Resize(source, target)(x), expected, atol=1e-5, rtol=1e-4)


def test_concatenate_brings_maps_to_one_grid() -> None:
    maps = [torch.full((2, 4, 8, 8), 3.0), torch.full((2, 5, 4, 4), -1.0)]
    joined = Concatenate([4, 5], [8, 4], 4)(maps)
    assert joined.shape == (2, 9, 4, 4)
    torch.testing.assert_close(joined[:, :4], torch.full((2, 4, 4, 4), 3.0))


def test_normalise_standardises_every_channel_and_has_nothing_to_learn() -> None:
    layer = Concatenate([4], [8], 8, normalise=True).train()
    x = 50 * torch.randn(16, 4, 8, 8) + 20
    y = layer([x])
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)
    assert not list(layer.parameters())


def test_multiscale_is_the_projected_concatenation_plus_the_mean() -> None:
    torch.manual_seed(0)
    layer = MultiScale([4, 5, 6], [8, 4, 2], 4, 3)
    maps = [torch.randn(2, 4, 8, 8), torch.randn(2, 5, 4, 4), torch.randn(2, 6, 2, 2)]
    each = []
    for scale, m in zip(layer.scales, maps, strict=True):
        conv = next(part for part in scale if isinstance(part, nn.Conv2d))
        down = m.shape[2] > 4
        each.append(functional.interpolate(conv(m), size=(4, 4), mode="bilinear", antialias=down))
    expected = layer.join(torch.cat(each, 1)) + sum(each) / 3
    torch.testing.assert_close(layer(maps), expected, atol=1e-5, rtol=1e-4)
