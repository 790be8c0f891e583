import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.regions import GRID_PX, Region, bucket_sides, plan_region
from worker import masks, regions

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
    assert regions.cut(mask, region).shape == (region.canvas[1], region.canvas[0])


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
    if region.size == region.canvas:
        assert (regions.paste(picture, regions.cut(picture, region), region, mask) == picture).all()


def test_changed_pixels_outside_the_mask_are_counted() -> None:
    picture = np.zeros((10, 10, 3), np.uint8)
    mask = np.zeros((10, 10), np.uint8)
    mask[0, 0] = 255
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
    assert region.canvas[0] == 512
    across, down = (length / side for length, side in zip(region.size, region.canvas, strict=True))
    assert abs(across / down - 1) < 0.01


def test_bucket_sides_grow_by_halves() -> None:
    assert bucket_sides(256, 1024) == [256, 384, 512, 768, 1024]
    assert bucket_sides(512, 512) == [512]
