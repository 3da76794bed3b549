from __future__ import annotations

import numpy as np
import pytest

from training import saliency
from training.creatives.values import Box, PhotoPlacement, Region


def test_a_density_sums_to_one_and_peaks_where_people_looked():
    heat = saliency.density(np.array([[0.75, 0.25]], np.float32), 60, 80, 4 / 3)
    assert heat.sum() == pytest.approx(1, abs=1e-4)
    assert np.unravel_index(heat.argmax(), heat.shape) == (15, 60)


def test_the_blur_is_three_per_cent_of_the_diagonal():
    heat = saliency.density(np.array([[0.5, 0.5]], np.float32), 300, 400, 4 / 3)
    columns = np.arange(400) + 0.5
    spread = np.sqrt((heat.sum(0) * (columns - 200.5) ** 2).sum())
    assert spread == pytest.approx(15, rel=0.02)


def test_points_outside_and_no_points_are_nothing():
    outside = saliency.density(np.array([[1.2, 0.5]], np.float32), 8, 8, 1.0)
    assert outside.sum() == 0
    assert saliency.density(np.zeros((0, 2), np.float32), 8, 8, 1.0).sum() == 0


def test_fixations_move_with_the_crop_and_its_mirror():
    points = np.array([[0.5, 0.5], [0.9, 0.9]], np.float32)
    placement = PhotoPlacement("p", Box(0.4, 0.4, 0.4, 0.4), Box(0.5, 0.0, 0.5, 1.0), flipped=False)
    assert saliency.place(points, placement) == pytest.approx(np.array([[0.625, 0.25]]))
    mirrored = PhotoPlacement("p", placement.crop, placement.box, flipped=True)
    assert saliency.place(points, mirrored) == pytest.approx(np.array([[0.875, 0.25]]))


def test_text_draws_attention_on_a_creative():
    placement = PhotoPlacement("p", Box(0, 0, 1, 1), Box(0, 0, 0.5, 1), flipped=False)
    regions = (Region("headline", Box(0.6, 0.1, 0.3, 0.2)), Region("brand", Box(0.6, 0.8, 0.3, 0.1)))
    points = np.array([[0.5, 0.5]], np.float32)
    heat = saliency.creative_density(points, placement, regions, 64, 1.2)
    assert heat.sum() == pytest.approx(1, abs=1e-4)
    headline, brand = heat[6:20, 38:58].sum(), heat[50:60, 38:58].sum()
    assert headline > 2 * brand > 0
    assert heat[:, :32].sum() > headline


def test_baselines_sum_to_one():
    centre = saliency.centre_bias(96, 128)
    assert centre.sum() == pytest.approx(1, abs=1e-4)
    assert np.unravel_index(centre.argmax(), centre.shape) in {(47, 63), (47, 64), (48, 63), (48, 64)}
    image = np.random.default_rng(0).integers(80, 110, (64, 64, 3), dtype=np.uint8)
    image[20:26, 40:46] = 250
    odd = saliency.spectral_residual(image, 64, 64)
    assert odd.sum() == pytest.approx(1, abs=1e-4)
    row, column = np.unravel_index(odd.argmax(), odd.shape)
    assert 14 <= row <= 32
    assert 34 <= column <= 52
