"""Rectangles around lines of text, against OpenCV's and PaddleOCR's own post-processing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from worker.intake.text_boxes import MAX_BOXES, Rectangle, _labels, _smallest_rectangle, rectangles


def drawn(*boxes: tuple[tuple[float, float], tuple[float, float], float], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map of probability 0.9 in rotated rectangles (centre, width and height, degrees)."""
    canvas = np.zeros(size, np.uint8)
    for box in boxes:
        cv2.fillPoly(canvas, [cv2.boxPoints(box).round().astype(np.int32)], 1)
    return canvas * np.float32(0.9)


def corners(box: Rectangle) -> NDArray[np.float64]:
    across, along = np.array(box.across), np.array(box.along)
    return np.array(
        [
            [box.x, box.y] + u * box.half_width * along + v * box.half_height * across
            for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]
    )


def test_a_level_line_gets_its_box_and_a_margin() -> None:
    (box,) = rectangles(drawn(((100, 40), (120, 20), 0), size=(80, 240)))
    margin = 121 * 21 * 1.6 / (2 * (121 + 21))  # of what the 2×2 dilation left, by the paper's rule
    assert (box.x, box.y) == pytest.approx((100.5, 40.5), abs=0.6)
    assert (box.half_width, box.half_height) == pytest.approx((60.5 + margin, 10.5 + margin), abs=0.6)
    assert box.along == pytest.approx((1, 0), abs=1e-6)


@pytest.mark.parametrize("degrees", [-30, -5, 12, 44])
def test_a_slanted_line_keeps_its_direction(degrees: float) -> None:
    (box,) = rectangles(drawn(((150, 120), (140, 24), degrees), size=(240, 300)))
    assert np.degrees(np.arctan2(box.along[1], box.along[0])) == pytest.approx(degrees, abs=1.5)
    assert box.half_width > 3 * box.half_height / 2


@pytest.mark.parametrize("seed", range(5))
def test_shapes_are_those_that_opencv_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = cv2.GaussianBlur(rng.random((90, 130)), (0, 0), 2.5) > 0.5
    edges = np.flatnonzero(np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1))
    row, column = np.divmod(edges, mask.shape[1] + 1)
    rows, first, last = row[::2], column[::2], column[1::2] - 1
    label = _labels(rows, first, last, mask.shape[1])
    count, theirs = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    pairs = set(zip(label.tolist(), theirs[rows, first].tolist(), strict=True))
    assert len(pairs) == len(set(label.tolist())) == count - 1


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_rectangle_is_opencvs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = (rng.normal(size=(40, 2)) * (30, 6)) @ np.array([[0.8, 0.6], [-0.6, 0.8]]).T + 100
    points = points.round()
    ours = _smallest_rectangle(points)
    (x, y), (w, h), _ = cv2.minAreaRect(points.astype(np.float32))
    assert 4 * ours.half_width * ours.half_height == pytest.approx(w * h, rel=1e-3)
    assert (ours.x, ours.y) == pytest.approx((x, y), abs=0.05)
    inside = cv2.convexHull(corners(ours).astype(np.float32))
    assert all(cv2.pointPolygonTest(inside, tuple(map(float, point)), True) > -1e-2 for point in points)


def test_faint_and_tiny_shapes_are_no_lines() -> None:
    faint = drawn(((60, 30), (80, 16), 0), size=(60, 120)) / 2  # 0.45: over the map's threshold, under the box's
    assert rectangles(faint) == []
    assert rectangles(drawn(((60, 30), (1, 1), 0), size=(60, 120))) == []
    assert rectangles(np.zeros((32, 32), np.float32)) == []


def test_a_hostile_map_gives_a_bounded_number_of_lines() -> None:
    tiles = np.zeros((960, 960), np.float32)
    for y in range(0, 960, 12):
        for x in range(0, 960, 24):
            tiles[y : y + 6, x : x + 16] = 1
    assert len(rectangles(tiles)) == MAX_BOXES
    noise = np.random.default_rng(0).random((960, 960)).astype(np.float32)
    assert len(rectangles(noise)) <= MAX_BOXES


def test_a_place_on_a_smaller_picture_is_found_on_the_larger() -> None:
    box = Rectangle(10, 5, 8, 3, (0.8, 0.6)).scaled(2, 2)
    assert (box.x, box.y, box.half_width, box.half_height) == pytest.approx((20.5, 10.5, 16, 6))
    assert box.along == pytest.approx((0.8, 0.6))


def test_lines_are_those_of_paddleocrs_own_code() -> None:
    reference = pytest.importorskip("rapidocr.ch_ppocr_det.utils")
    layout = [
        ((120, 40), (180, 24), 0),
        ((300, 120), (160, 30), 9),
        ((90, 170), (120, 12), -4),
        ((420, 60), (24, 90), 0),
    ]
    found = drawn(*layout, size=(224, 480))
    boxes, _ = reference.DBPostProcess(0.3, 0.5, 1000, 1.6, "fast", True)(found[None, None], (224, 480))
    ours = sorted(corners(box).tolist() for box in rectangles(found))
    assert len(ours) == len(boxes) == len(layout)
    centres = {tuple(np.mean(box, axis=0)) for box in ours}
    areas = sorted(cv2.contourArea(np.array(box, np.float32)) for box in ours)
    for box in boxes:
        assert min(np.hypot(*(np.mean(box, axis=0) - centre)) for centre in centres) < 1.5
    assert areas == pytest.approx(sorted(cv2.contourArea(box.astype(np.float32)) for box in boxes), rel=0.06)
