"""The fill's detail: the surface under it has tests of its own."""

import cv2
import numpy as np
import pytest

from worker.pixels.fill.biharmonic import smooth_fill
from worker.pixels.fill.texture import EDGE, fill


def _grain(height: int = 96, width: int = 128, deviation: float = 6.0) -> np.ndarray:
    """A grey slope with grain on it, (H, W, 3)."""
    slope = np.broadcast_to(np.linspace(60, 180, width)[None, :, None], (height, width, 3))
    return (slope + np.random.default_rng(0).normal(0, deviation, slope.shape)).round().clip(0, 255).astype(np.uint8)


def _box(height: int = 96, width: int = 128) -> np.ndarray:
    hole = np.zeros((height, width), bool)
    hole[30:70, 40:90] = True
    return hole


def _roughness(image: np.ndarray, where: np.ndarray) -> float:
    fine = image.astype(np.float32) - cv2.GaussianBlur(image.astype(np.float32), (0, 0), 2)
    return float(fine[where].std())


def test_the_grain_of_the_surroundings_goes_on_in_the_hole() -> None:
    image, hole = _grain(), _box()
    around = _roughness(image, ~hole)
    assert 0.5 * around < _roughness(fill(image, hole), hole) < around
    assert _roughness(smooth_fill(image, hole), hole) < 0.3 * around


def test_a_smooth_picture_gets_none() -> None:
    image, hole = _grain(deviation=0), _box()
    assert np.abs(fill(image, hole).astype(int) - smooth_fill(image, hole)).max() <= 1


def test_outlines_do_not_go_on_as_texture_does() -> None:
    image, hole = np.full((96, 128, 3), 40, np.uint8), _box()
    image[:, 34:37] = 240
    change = fill(image, hole).astype(int) - smooth_fill(image, hole)
    assert np.abs(change).max() <= EDGE


def test_it_mirrors_what_lies_beyond_the_nearest_edge() -> None:
    image, hole = np.full((40, 60, 3), 128, np.uint8), np.zeros((40, 60), bool)
    hole[:, 30:] = True
    image[20, 27] = 136  # three columns before the first of the hole
    change = fill(image, hole).astype(int) - smooth_fill(image, hole)
    row, column = np.unravel_index(change[..., 0].argmax(), hole.shape)
    assert (int(row), int(column)) == (20, 31)  # its edge is the last known column


def test_what_lay_in_the_hole_does_not_matter_and_the_rest_stays() -> None:
    image, hole = _grain(), _box()
    other = np.where(hole[..., None], 255 - image, image).astype(np.uint8)
    filled = fill(image, hole)
    assert np.array_equal(filled, fill(other, hole))
    assert np.array_equal(filled[~hole], image[~hole])


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 40), (64, 64), (257, 131)])
def test_any_size_and_a_hole_that_leaves_one_pixel(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), (10, 200, 90), np.uint8)
    hole = np.ones(size, bool)
    hole[0, 0] = False
    assert np.array_equal(fill(image, hole), image)
    assert fill(image, np.ones(size, bool)).shape == image.shape
    assert np.array_equal(fill(image, np.zeros(size, bool)), image)
