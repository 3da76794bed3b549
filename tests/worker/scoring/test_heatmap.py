import base64

import numpy as np
import pytest
from PIL import Image

from worker.scoring import heatmap


def test_a_small_map_keeps_its_grid_and_its_hottest_cell_is_255() -> None:
    part = heatmap.encode(np.array([[0.0, 1.0, 2.0], [4.0, 0.0, 3.0]]))
    assert part["grid"] == [2, 3]
    assert part["encoding"] == "u8-base64"
    assert list(base64.b64decode(part["values"])) == [0, 64, 128, 255, 0, 191]  # row by row from the top left


def test_a_large_map_is_averaged_by_area() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((96, 144))
    expected = values.reshape(48, 2, 48, 3).mean(axis=(1, 3))
    cells = heatmap.decode(heatmap.encode(values))
    assert cells.shape == (48, 48)
    assert np.abs(cells - expected / expected.max() * 255).max() <= 0.51


def test_no_peak_falls_between_cells_of_an_uneven_ratio() -> None:
    values = np.zeros((64, 64))
    values[33, 62] = 1.0
    cells = heatmap.decode(heatmap.encode(values))
    row, column = np.unravel_index(int(cells.argmax()), cells.shape)
    assert (row, column) == (int(33.5 * 48 / 64), int(62.5 * 48 / 64))


@pytest.mark.parametrize("shape", [(1, 1), (7, 100), (48, 48), (64, 64)])
def test_grid_is_at_most_48_by_48(shape: tuple[int, int]) -> None:
    part = heatmap.encode(np.ones(shape, np.float32))
    assert part["grid"] == [min(48, shape[0]), min(48, shape[1])]
    assert set(heatmap.decode(part).flat) == {255}


def test_a_map_of_nothing_is_all_zeros() -> None:
    assert not heatmap.decode(heatmap.encode(np.zeros((4, 4)))).any()


@pytest.mark.parametrize("values", [np.full((2, 2), np.nan), np.array([[1.0, -0.1]]), np.ones(3), np.ones((0, 2))])
def test_what_is_no_map_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="heatmap"):
        heatmap.encode(values)


def test_decode_refuses_another_grid() -> None:
    part = heatmap.encode(np.ones((2, 2)))
    with pytest.raises(ValueError, match="4 cells for 3×2"):
        heatmap.decode(part | {"grid": [3, 2]})


def test_overlay_changes_the_creative_only_where_people_look() -> None:
    values = np.zeros((8, 8))
    values[0, 7] = 1.0
    shown = np.asarray(heatmap.overlay(Image.new("RGB", (160, 80), "white"), heatmap.encode(values)))
    assert shown.shape == (80, 160, 3)
    assert (shown[60:, :80] == 255).all()
    assert (shown[:6, 150:] != 255).any()
