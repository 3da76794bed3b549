"""Pooling of regions against plain means, and crops against Pillow's idea of them."""

from __future__ import annotations

import torch

from admodels.layers.regions import crop_regions, grid_boxes, pool_regions


def test_a_box_on_cell_borders_is_the_mean_of_its_cells() -> None:
    features = torch.randn(2, 3, 4, 8)
    boxes = torch.tensor([[[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 1.0, 1.0]]]).expand(2, -1, -1)
    pooled = pool_regions(features, boxes)
    torch.testing.assert_close(pooled[:, 0], features[:, :, 2:4, 2:6].mean((2, 3)))
    torch.testing.assert_close(pooled[:, 1], features.mean((2, 3)))


def test_a_cell_counts_by_what_lies_inside() -> None:
    features = torch.tensor([[[[1.0, 5.0]]]])
    pooled = pool_regions(features, torch.tensor([[[0.25, 0.0, 1.0, 1.0], [0.3, 0.2, 0.3, 0.2]]]))
    torch.testing.assert_close(pooled, torch.tensor([[[(0.5 * 1 + 1 * 5) / 1.5], [0.0]]]))


def test_the_grid_covers_the_image_once_per_scale() -> None:
    boxes = grid_boxes((2, 3))
    assert boxes.shape == (13, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    torch.testing.assert_close(torch.stack([areas[:4].sum(), areas[4:].sum()]), torch.ones(2))
    torch.testing.assert_close(boxes[4], torch.tensor([0.0, 0.0, 1 / 3, 1 / 3]))


def test_crops_are_the_regions_at_full_size() -> None:
    image = torch.arange(64, dtype=torch.uint8).view(1, 8, 8, 1).expand(1, 8, 8, 3)
    whole, corner = crop_regions(image, torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.0, 0.5]]]))
    torch.testing.assert_close(whole, image[0].float())
    expected = torch.nn.functional.interpolate(
        image[:, :4, 4:].permute(0, 3, 1, 2).float(), size=(8, 8), mode="bilinear", align_corners=False
    )[0].permute(1, 2, 0)
    # Inside; at the border a crop sees its neighbours, which a cut-out image doesn't have.
    torch.testing.assert_close(corner[1:-1, 1:-1], expected[1:-1, 1:-1])
