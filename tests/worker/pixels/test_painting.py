"""What passes have painted, put together: no seam, in whatever order the tiles came."""

import cv2
import numpy as np
import pytest

from jobs.regions import Box, Region, plan_region
from tests.factories import noise
from worker.pixels.painting import Painting

SIZE = (300, 200)
WHOLE = plan_region(SIZE, (0, 0, *SIZE), 0, True, (64, 128))


def tile(box: Box) -> Region:
    return Region(box, (box[2] - box[0], box[3] - box[1]), (0, 0, box[2] - box[0], box[3] - box[1]))


LEFT, RIGHT, BELOW = tile((0, 0, 128, 128)), tile((90, 0, 218, 128)), tile((60, 70, 188, 198))


def of_one_value(*values: int, count: int = 2) -> np.ndarray:
    return np.stack([np.full((128, 128, 3), values[index % len(values)], np.uint8) for index in range(count)])


def painting(*tiles: tuple[Region, int]) -> Painting:
    """A first pass of 0, and tiles of one value each."""
    made = Painting(WHOLE, np.zeros((2, *WHOLE.canvas[::-1], 3), np.uint8))
    for region, value in tiles:
        made.add(region, of_one_value(value))
    return made


def test_the_first_pass_enlarged_is_what_a_result_without_tiles_shows() -> None:
    canvases = cv2.GaussianBlur(noise(WHOLE.canvas[::-1]), (0, 0), 4)[None]
    left, top, right, bottom = WHOLE.inner
    whole = cv2.resize(canvases[0, top:bottom, left:right], SIZE, interpolation=cv2.INTER_CUBIC)
    for box in [(0, 0, *SIZE), (37, 11, 290, 200)]:
        part = whole[box[1] : box[3], box[0] : box[2]]
        assert np.abs(Painting(WHOLE, canvases).layer(0, box).astype(int) - part).max() <= 2


def test_where_a_tile_is_the_first_one_it_decides_wholly() -> None:
    made = painting()
    assert (made.share(LEFT.box) == 255).all()
    made.add(LEFT, of_one_value(200))
    assert (made.layer(1, LEFT.box) == 200).all()
    share = made.share(RIGHT.box)
    assert (share[:, 38:] == 255).all() and share[:, 0].max() < 8 and (np.diff(share[5].astype(int)) >= 0).all()


def test_one_tile_becomes_the_next_gradually() -> None:
    row = painting((LEFT, 0), (RIGHT, 255)).layer(0, (0, 0, 218, 128))[60, :, 0].astype(int)
    assert row[80] == 0 and row[130] == 255
    assert (np.diff(row) >= 0).all() and np.diff(row).max() <= 24


@pytest.mark.parametrize("box", [(0, 0, *SIZE), (70, 80, 170, 120)])
def test_the_order_in_which_tiles_were_painted_changes_nothing(box: Box) -> None:
    tiles = [(LEFT, 30), (RIGHT, 220), (BELOW, 120)]
    first = painting(*tiles).layer(0, box).astype(int)
    other = painting(*reversed(tiles)).layer(0, box).astype(int)
    assert np.abs(first - other).max() <= 2


def test_each_image_has_its_own_and_padding_is_left_out() -> None:
    made, padded = painting(), Region((10, 10, 90, 110), (128, 128), (24, 14, 104, 114))
    pixels = of_one_value(9)
    pixels[0, 14:114, 24:104], pixels[1, 14:114, 24:104] = 50, 60
    made.add(padded, pixels)
    assert [(made.layer(index, padded.box) == value).all() for index, value in enumerate((50, 60))] == [True, True]
