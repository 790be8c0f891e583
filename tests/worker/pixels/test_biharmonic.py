"""The smooth fill beside scikit-image's exact solution of the same equation."""

import cv2
import numpy as np
import pytest
from skimage.restoration import inpaint_biharmonic

from worker.pixels.fill.biharmonic import smooth_fill


def _waves(height: int = 96, width: int = 128) -> np.ndarray:
    """A smooth picture, (H, W, 3)."""
    y, x = np.mgrid[:height, :width] / 20
    return np.stack([128 + 90 * np.sin(x + k) * np.cos(0.7 * y - k) for k in range(3)], axis=2).round().astype(np.uint8)


def _stroke(height: int = 96, width: int = 128, thickness: int = 9) -> np.ndarray:
    hole = np.zeros((height, width), np.uint8)
    cv2.line(hole, (20, 15), (100, 80), 1, thickness)
    return hole.astype(bool)


def _box(height: int = 96, width: int = 128) -> np.ndarray:
    hole = np.zeros((height, width), bool)
    hole[30:70, 40:90] = True
    return hole


def _error(filled: np.ndarray, image: np.ndarray, hole: np.ndarray) -> float:
    """Root mean square difference in the hole, in grey levels."""
    return float(np.sqrt(np.square(filled[hole].astype(float) - image[hole]).mean()))


def test_a_stroke_over_a_smooth_picture_is_filled_as_well_as_by_the_exact_solution() -> None:
    image, hole = _waves(), _stroke()
    exact = inpaint_biharmonic(np.where(hole[..., None], 0, image).astype(np.uint8), hole, channel_axis=2) * 255
    assert _error(smooth_fill(image, hole), image, hole) < _error(exact, image, hole) + 0.5


@pytest.mark.parametrize("hole", [_stroke(), _box()], ids=["stroke", "box"])
def test_it_goes_on_with_slopes_where_opencvs_fills_flatten_them(hole: np.ndarray) -> None:
    image = _waves()
    error = _error(smooth_fill(image, hole), image, hole)
    for how in (cv2.INPAINT_TELEA, cv2.INPAINT_NS):
        flat = np.asarray(cv2.inpaint(image, hole.astype(np.uint8), 5, how))
        assert error < 0.7 * _error(flat, image, hole)


def test_what_lay_in_the_hole_does_not_matter_and_the_rest_stays() -> None:
    image, hole = _waves(), _box()
    other = np.where(hole[..., None], 255 - image, image).astype(np.uint8)
    filled = smooth_fill(image, hole)
    assert np.array_equal(filled, smooth_fill(other, hole))
    assert np.array_equal(filled[~hole], image[~hole])


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (64, 64), (257, 131)])
def test_any_size_and_a_hole_that_leaves_one_pixel(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), (10, 200, 90), np.uint8)
    hole = np.ones(size, bool)
    hole[0, 0] = False
    assert np.array_equal(smooth_fill(image, hole), image)


def test_a_hole_that_is_the_whole_picture_is_filled_with_one_colour() -> None:
    filled = smooth_fill(_waves(), np.ones((96, 128), bool))
    assert len(np.unique(filled.reshape(-1, 3), axis=0)) == 1


def test_no_hole_no_change() -> None:
    image = _waves()
    assert np.array_equal(smooth_fill(image, np.zeros((96, 128), bool)), image)
