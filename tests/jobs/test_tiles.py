"""The tiles of a large hole: they cover it, overlap, and are no more than it takes."""

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jobs.passes import asked_of, steps_of
from jobs.regions import GRID_PX, Box, Region
from jobs.tiles import CELL_PX, OVERLAP_SHARE, cells_of, from_the_known, grown, plan_tiles
from tests.factories import inpaint_parameters
from worker.pixels import masks

SIDES = (64, 128)
Mask = NDArray[np.uint8]


@st.composite
def drawn(draw: st.DrawFn) -> Mask:
    """A mask of a few boxes anywhere in a picture of any size."""
    width, height = draw(st.integers(1, 900)), draw(st.integers(1, 900))
    mask = np.zeros((height, width), np.uint8)
    for _ in range(draw(st.integers(1, 3))):
        left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        mask[top : top + draw(st.integers(1, 500)), left : left + draw(st.integers(1, 500))] = draw(st.integers(1, 255))
    return mask


def planned(mask: Mask, sides: tuple[int, int] = SIDES) -> list[Region]:
    box = masks.bounding_box(mask)
    assert box
    return plan_tiles(mask.shape[::-1], box, cells_of(mask), sides)


def holds(tile: Box, x: int, y: int) -> bool:
    return tile[0] <= x < tile[2] and tile[1] <= y < tile[3]


@settings(max_examples=300, deadline=None)
@given(drawn())
def test_every_pixel_of_the_mask_lies_in_a_tile_of_native_pixels_inside_the_picture(mask: Mask) -> None:
    tiles, covered = planned(mask), np.zeros_like(mask)
    for tile in tiles:
        left, top, right, bottom = tile.box
        assert left >= 0 and top >= 0 and right <= mask.shape[1] and bottom <= mask.shape[0]
        assert tile.size == tile.run_px and tile.canvas == tiles[0].canvas
        assert all(side % GRID_PX == 0 and side <= SIDES[1] for side in tile.canvas)
        covered[top:bottom, left:right] = 1
    assert not mask[covered == 0].any()


@settings(max_examples=300, deadline=None)
@given(drawn())
def test_tiles_are_as_few_as_their_overlap_allows_and_none_lies_where_no_mask_is_near(mask: Mask) -> None:
    left, top, right, bottom = masks.bounding_box(mask) or (0, 0, 0, 0)
    tiles = planned(mask)
    least = SIDES[1] - SIDES[1] // OVERLAP_SHARE
    assert len(tiles) <= math.prod(-(-(length + 32) // least) for length in (right - left, bottom - top))
    for tile in tiles:
        x, y, x_end, y_end = tile.box
        near = mask[max(0, y - CELL_PX) : y_end + CELL_PX, max(0, x - CELL_PX) : x_end + CELL_PX]
        assert near.any()
    for axis in (0, 1):
        spans = sorted({(tile.box[axis], tile.box[axis + 2]) for tile in planned(np.full_like(mask, 255))})
        overlaps = [end - begin for (_, end), (begin, _) in pairwise(spans)]
        assert all(overlap >= SIDES[1] // OVERLAP_SHARE - 1 for overlap in overlaps)


@settings(max_examples=100, deadline=None)
@given(drawn(), st.integers(0, 130), st.integers(0, 130))
def test_grown_cells_hold_all_that_growing_and_feathering_add(mask: Mask, grow_px: int, feather_px: int) -> None:
    effective = masks.effective_mask(mask, grow_px, feather_px)
    assert (grown(cells_of(mask), grow_px + feather_px) >= cells_of(effective)).all()


def test_two_specks_far_apart_take_two_tiles_and_a_hole_as_large_as_a_tile_one() -> None:
    specks = np.zeros((3000, 4000), np.uint8)
    specks[100, 100] = specks[2900, 3900] = 255
    assert len(planned(specks)) == 2
    small = np.zeros((500, 500), np.uint8)
    small[200:300, 200:290] = 255
    assert len(planned(small)) == 2
    small[290:] = 0
    assert len(planned(small)) == 1


@settings(max_examples=100, deadline=None)
@given(drawn())
def test_the_order_leaves_no_tile_out(mask: Mask) -> None:
    tiles = planned(mask)
    ordered = from_the_known(tiles, mask)
    assert sorted(tile.box for tile in ordered) == sorted(tile.box for tile in tiles)


def test_the_tiles_of_an_extension_march_away_from_the_photo() -> None:
    mask = np.full((120, 1000), 255, np.uint8)
    mask[:, :200] = 0
    ordered = from_the_known(planned(mask), mask)
    assert len(ordered) > 5
    assert [tile.box for tile in ordered] == sorted(tile.box for tile in ordered)
    flipped = cv2.flip(mask, 1)
    ordered = from_the_known(planned(flipped), flipped)
    assert [tile.box for tile in ordered] == sorted((tile.box for tile in ordered), reverse=True)


def test_tiles_narrower_than_a_square_that_is_looked_at_are_put_in_order_too() -> None:
    mask = np.full((400, 10), 255, np.uint8)
    mask[300:] = 0
    boxes: list[Box] = [(0, top, 9, top + 80) for top in range(0, 320, 80)]
    ordered = from_the_known([Region(box, (16, 80), (0, 0, 9, 80)) for box in boxes], mask)
    assert ordered[0].box == boxes[-1] and len(ordered) == len(boxes)


def test_each_image_of_a_tile_is_asked_for_by_itself_with_a_seed_that_no_other_has() -> None:
    parameters = inpaint_parameters(
        n=3, seed=2**32 - 3, masked_content="noise", tiles={"count": 40, "strength": 0.3}, strength=0.8
    )
    assert asked_of(parameters, 0) == [parameters]
    seeds = set(parameters.seeds)
    for index in range(1, 41):
        each = asked_of(parameters, index)
        assert [(one.n, one.strength, one.masked_content) for one in each] == [(1, 0.3, "fill")] * 3
        seeds |= {one.seed for one in each}
    assert len(seeds) == 3 * 41
    assert asked_of(parameters, 7)[1].seed == asked_of(parameters.model_copy(update={"seed": 2**32 - 2}), 7)[0].seed


@pytest.mark.parametrize(("strength", "tile", "steps"), [(1.0, 0.5, 20 + 3 * 10), (0.5, 0.25, 10 + 3 * 5)])
def test_steps_are_those_of_all_passes(strength: float, tile: float, steps: int) -> None:
    parameters = inpaint_parameters(
        num_inference_steps=20, strength=strength, tiles={"count": 3, "strength": tile}, scheduler="ddim"
    )
    assert steps_of(parameters) == steps
