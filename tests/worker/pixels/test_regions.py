import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.regions import GRID_PX, Region, bucket_sides, plan_region
from tests.factories import mask_with
from worker.pixels import masks, regions

SIDES = (64, 256)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, bool]:
    """A random picture of any size, a random mask in it (black and white or grey), a padding, crop on or off."""
    width, height = draw(st.integers(1, 400)), draw(st.integers(1, 400))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    picture = rng.integers(0, 256, (height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    soft = draw(st.booleans())
    inside = rng.integers(0, 256, (bottom - top, right - left), np.uint8)
    mask[top:bottom, left:right] = inside if soft else np.where(inside > 127, 255, 0)
    mask[top, left] = 255
    return picture, mask, draw(st.integers(0, 64)), draw(st.booleans())


def plan(picture: np.ndarray, mask: np.ndarray, padding: int, crop: bool) -> Region:
    box = masks.bounding_box(mask)
    assert box is not None
    return plan_region((picture.shape[1], picture.shape[0]), box, padding, crop, SIDES)


@settings(max_examples=300, deadline=None)
@given(scenes())
def test_the_region_covers_the_mask_and_its_canvas_is_one_the_network_can_run(
    scene: tuple[np.ndarray, np.ndarray, int, bool],
) -> None:
    picture, mask, padding, crop = scene
    region = plan(picture, mask, padding, crop)
    box = masks.bounding_box(mask)
    assert box is not None
    assert region.box[0] <= box[0] and region.box[1] <= box[1]
    assert region.box[2] >= box[2] and region.box[3] >= box[3]
    assert all(side % GRID_PX == 0 and side <= SIDES[1] for side in region.canvas)
    assert regions.cut(picture, region).shape == (region.canvas[1], region.canvas[0], 3)
    assert regions.cut_mask(mask, region).shape == (region.canvas[1], region.canvas[0])
    assert region.box[0] >= 0 and region.box[1] >= 0
    assert region.box[2] <= picture.shape[1] and region.box[3] <= picture.shape[0]
    assert region.scale == 1 or max(region.canvas) == SIDES[1]


@settings(max_examples=300, deadline=None)
@given(scenes())
def test_pixels_outside_the_mask_are_byte_equal_and_inside_they_are_the_canvas(
    scene: tuple[np.ndarray, np.ndarray, int, bool],
) -> None:
    picture, mask, padding, crop = scene
    region = plan(picture, mask, padding, crop)
    canvas = np.full((region.canvas[1], region.canvas[0], 3), 77, np.uint8)
    result = regions.paste(picture, canvas, region, mask)
    assert result.shape == picture.shape
    assert (result[mask == 0] == picture[mask == 0]).all()
    assert (result[mask == 255] == 77).all()
    assert regions.changed_outside(picture, result, mask) == 0


@settings(max_examples=100, deadline=None)
@given(scenes())
def test_pasting_the_cut_out_pixels_back_changes_nothing_at_native_size(
    scene: tuple[np.ndarray, np.ndarray, int, bool],
) -> None:
    picture, mask, padding, crop = scene
    region = plan(picture, mask, padding, crop)
    if region.scale == 1:
        assert (regions.paste(picture, regions.cut(picture, region), region, mask) == picture).all()


def test_changed_pixels_outside_the_mask_are_counted() -> None:
    picture = np.zeros((10, 10, 3), np.uint8)
    mask = mask_with(np.s_[0, 0], (10, 10))
    result = picture.copy()
    result[0, 0] = 9
    result[5, 5, 1] = 1
    result[6, 6] = 1
    assert regions.changed_outside(picture, result, mask) == 2


def test_small_masks_in_photos_of_any_size_share_one_canvas() -> None:
    canvases = {
        plan_region((width, height), (200, 150, 260, 200), 32, True, (256, 512)).canvas
        for width, height in ((640, 427), (1024, 768), (6000, 4000))
    }
    assert canvases == {(256, 256)}


def test_a_mask_longer_than_the_longest_side_is_run_shrunk_with_its_proportions() -> None:
    region = plan_region((2000, 1500), (100, 100, 1900, 1000), 32, True, (256, 512))
    assert region.canvas[0] == region.run_px[0] == 512
    across, down = (length / side for length, side in zip(region.size, region.run_px, strict=True))
    assert abs(across / down - 1) < 0.01
    assert region.scale == 512 / region.size[0] < 1


SIZES = [*((width, height) for width in range(1, 71, 3) for height in range(1, 71, 4)), (640, 481), (1600, 1201)]
SIZES += [(1201, 1600), (513, 1), (1, 513), (777, 3), (1025, 511), (4001, 37), (5000, 1), (40_000, 2)]


@pytest.mark.parametrize("crop", [True, False])
def test_no_masked_pixel_comes_from_the_upload_whatever_the_pictures_size(crop: bool) -> None:
    for size in SIZES:
        full = (0, 0, *size)
        right_half = (size[0] // 2, size[1] // 3, *size)
        for bbox in (full, right_half):
            region = plan_region(size, bbox, 0, crop, SIDES)
            mask = np.zeros(size[::-1], np.uint8)
            mask[bbox[1] : bbox[3], bbox[0] : bbox[2]] = 255
            upload = np.zeros((*size[::-1], 3), np.uint8)
            painted = np.full((region.canvas[1], region.canvas[0], 3), 255, np.uint8)
            result = regions.paste(upload, painted, region, mask)
            assert (result[mask == 255] == 255).all() and (result[mask == 0] == 0).all(), (size, bbox)


def test_a_crop_keeps_surroundings_where_the_picture_has_any() -> None:
    for bbox in (
        (64, 64, 320, 320),
        (0, 0, 256, 300),
        (10, 0, 400, 400),
        (0, 0, 400, 400),
        (100, 100, 101, 101),
        (100, 100, 150, 150),
    ):
        region = plan_region((400, 400), bbox, 0, True, SIDES)
        for axis in (0, 1):
            before = bbox[axis] - region.box[axis]
            after = region.box[axis + 2] - bbox[axis + 2]
            assert before * region.scale > 15 or region.box[axis] == 0
            assert after * region.scale > 15 or region.box[axis + 2] == 400


@pytest.mark.parametrize("size", [(300, 257), (700, 451), (1500, 1201), (513, 90)])
def test_no_canvas_pixel_that_is_shown_holds_a_pixel_of_a_hard_mask(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(size[0]).random(size[::-1])
    mask = np.where(cv2.GaussianBlur(noise, (0, 0), size[0] / 30) > 0.5, np.uint8(255), np.uint8(0))
    region = plan_region(size, (0, 0, *size), 0, False, SIDES)
    x, y, x_end, y_end = region.inner
    shown = (regions.cut_mask(mask, region)[y:y_end, x:x_end] == 0).view(np.uint8)
    assert region.scale < 1 and 0.1 < shown.mean() < 0.9
    cells = cv2.resize(shown, size, interpolation=cv2.INTER_NEAREST_EXACT)
    assert not (cells & (mask > 0)).any()


def test_a_thin_stroke_survives_shrinking_whatever_its_place() -> None:
    for size in (700, 1500, 3300):
        region = plan_region((size, size), (0, 0, size, size), 0, False, SIDES)
        for at in range(0, size, 37):
            mask = mask_with(np.s_[:, at], (size, size))
            assert (regions.cut_mask(mask, region).max(axis=1) == 255).all()


def test_something_stays_known_on_the_canvas_where_the_picture_has_something_known() -> None:
    mask = np.full((1500, 1500), 255, np.uint8)
    mask[0] = mask[:, 0] = 0
    region = plan_region((1500, 1500), (0, 0, 1500, 1500), 0, True, SIDES)
    small = regions.cut_mask(mask, region)
    assert (small[0] == 0).any() and (small[10:-10, 10:-10] == 255).all()
    picture = np.zeros((1500, 1500, 3), np.uint8)
    picture[0] = picture[:, 0] = 200  # what is known
    shown = regions.cut(picture, region, weight=255 - mask)
    assert (shown[small == 0] > 190).all()


def test_what_is_shrunk_is_the_mean_of_what_it_covers_and_lands_where_it_was() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (64, 64, 3), np.uint8)
    picture = np.repeat(np.repeat(coarse, 8, 0), 8, 1)
    picture = np.where(rng.integers(0, 2, picture.shape), picture, picture // 2).astype(np.uint8)
    region = plan_region((512, 512), (0, 0, 512, 512), 0, False, (64, 256))
    mean = picture.reshape(256, 2, 256, 2, 3).mean((1, 3))
    assert np.abs(regions.cut(picture, region) - mean).max() <= 0.5
    ramp = np.repeat(np.linspace(0, 255, 512).round().astype(np.uint8)[None], 512, 0)
    picture = np.stack([ramp, ramp.T, ramp], -1)
    back = regions.paste(picture, regions.cut(picture, region), region, np.full((512, 512), 255, np.uint8))
    assert np.abs(back.astype(int) - picture)[4:-4, 4:-4].max() <= 1


def test_a_thin_picture_costs_no_more_than_itself_and_a_canvas() -> None:
    for size in ((1_000_000, 1), (1, 1_000_000), (40_000, 200), (200, 40_000), (65_535, 1), (30_000, 300)):
        picture, mask = np.zeros((size[1], size[0], 3), np.uint8), np.zeros((size[1], size[0]), np.uint8)
        mask[size[1] // 4 : size[1] // 4 + size[1] // 2 + 1, size[0] // 4 : size[0] // 2 + 1] = 255
        box = masks.bounding_box(mask)
        assert box is not None
        tracemalloc.start()
        region = plan_region(size, box, 32, True, (256, 1024))
        hole = regions.cut_mask(masks.effective_mask(mask, 3, 9), region)
        image = regions.cut(picture, region, weight=255 - mask)
        result = regions.paste(picture, image, region, mask)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert hole.any() and result.shape == picture.shape
        assert region.canvas[0] * region.canvas[1] <= 1024 * 1024
        assert peak < 4 * picture.nbytes + 24 * region.canvas[0] * region.canvas[1]


def test_what_surrounds_a_hole_at_the_pictures_edge_is_hidden_beyond_it_too() -> None:
    mask = mask_with(np.s_[10:30, 20:], (40, 40))
    region = plan_region((40, 40), (20, 10, 40, 30), 32, True, SIDES)
    _, y, x_end, _ = region.inner
    assert x_end < region.canvas[0]
    assert (regions.cut_mask(mask, region)[y + 10 : y + 30, x_end:] == 255).all()


def test_a_change_of_alpha_outside_the_mask_is_counted() -> None:
    picture, mask = np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9), np.uint8)
    result = picture.copy()
    result[4, 4, 3] = 1
    assert regions.changed_outside(picture, result, mask) == 1


def test_bucket_sides_grow_by_halves() -> None:
    assert bucket_sides(256, 1024) == [256, 384, 512, 768, 1024]
    assert bucket_sides(512, 512) == [512]
