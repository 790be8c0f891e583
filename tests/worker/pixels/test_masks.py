import numpy as np
import pytest
import torch

from tests.factories import mask_with
from worker.pixels import masks


def box(size: int = 64, low: int = 20, high: int = 40, value: int = 255) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[low:high, low:high] = value
    return mask


def test_growing_by_r_adds_r_pixels_on_every_side() -> None:
    for radius in (1, 5, 12, 13, 20):
        grown = masks.effective_mask(box(128, 50, 70), radius, 0)
        assert masks.bounding_box(grown) == (50 - radius, 50 - radius, 70 + radius, 70 + radius)


def test_feathering_softens_the_edge_and_nothing_beyond_its_radius() -> None:
    feathered = masks.effective_mask(box(), 0, 6)
    assert masks.is_soft(feathered)
    assert feathered[30, 30] == 255
    assert feathered[:14].max() == 0
    assert (np.diff(feathered[30, 5:31].astype(int)) >= 0).all()


@pytest.mark.parametrize(("value", "soft"), [(0, False), (1, True), (128, True), (254, True), (255, False)])
def test_one_pixel_between_black_and_white_makes_a_mask_soft(value: int, soft: bool) -> None:
    mask = mask_with(np.s_[10:20, 10:20], (40, 60))
    mask[30, 50] = value
    assert masks.is_soft(mask) is soft


def test_feathering_never_makes_a_mask_vanish() -> None:
    dot = mask_with(np.s_[30, 30], (64, 64))
    assert masks.effective_mask(dot, 0, 40).any()


def test_the_uploaded_mask_is_left_as_it_is() -> None:
    mask = box()
    before = mask.copy()
    masks.effective_mask(mask, 5, 5)
    assert (mask == before).all()


def test_an_empty_mask_has_no_bounding_box() -> None:
    assert masks.bounding_box(np.zeros((8, 8), np.uint8)) is None


def test_a_stroke_thinner_than_a_cell_still_marks_its_cells() -> None:
    mask = mask_with(np.s_[:, 13], (32, 32))
    assert masks.latent_mask(torch.tensor(mask), 8)[0, 0].tolist() == [[0, 1, 0, 0]] * 4


def test_a_cell_is_held_for_the_share_of_the_steps_that_its_value_lacks() -> None:
    values = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    held = torch.stack([masks.held(values, step, 20) for step in range(20)])
    assert held.sum(0).tolist() == [0, 5, 10, 15, 20]


def test_white_is_never_held_and_black_always() -> None:
    for step in range(10):
        assert masks.held(torch.tensor([1.0, 0.0]), step, 10).tolist() == [0, 1]


def test_the_step_in_which_a_cell_becomes_free_counts_in_part() -> None:
    values = torch.tensor([128 / 255, 254 / 255])
    held = torch.stack([masks.held(values, step, 10) for step in range(10)])
    torch.testing.assert_close(held[:, 0], torch.tensor([1.0] * 4 + [10 * 127 / 255 - 4] + [0.0] * 5))
    torch.testing.assert_close(held[:, 1], torch.tensor([10 / 255] + [0.0] * 9))


def test_feathering_leaves_no_pixel_less_than_it_was() -> None:
    rng = np.random.default_rng(0)
    strokes = mask_with(np.s_[10, 5:70], (80, 80))  # 1 px thin
    strokes[30:37, 5:70] = 255
    strokes[60:64, 60:64] = 180
    for mask in (strokes, rng.integers(0, 256, (80, 80), np.uint8)):
        for radius in (1, 2, 3, 4, 9, 40):
            assert (masks.effective_mask(mask, 0, radius) >= mask).all()


@pytest.mark.parametrize(("grow", "feather"), [(0, 1), (0, 8), (3, 8), (7, 0), (12, 33)])
def test_growing_and_feathering_reach_as_far_as_they_say_and_no_further(grow: int, feather: int) -> None:
    mask = box(200, 90, 110)
    row = masks.effective_mask(mask, grow, feather)[100].astype(int)
    assert row[: 90 - grow - feather].max() == 0 and row[90 - grow : 110 + grow].min() == 255
    ramp = row[90 - grow - feather : 90 - grow]
    assert (np.diff(ramp) >= 0).all()
    if feather >= 8:
        assert 0 < ramp[feather // 2] < 255 and np.count_nonzero((ramp > 0) & (ramp < 255)) >= feather // 2


def test_only_what_is_in_reach_of_the_mask_is_looked_at() -> None:
    mask = mask_with(np.s_[180:220, 150:260], (400, 400))
    whole = masks.effective_mask(mask, 5, 20)
    part = (slice(180 - 25, 220 + 25), slice(150 - 25, 260 + 25))
    assert np.array_equal(masks.effective_mask(mask[part], 5, 20), whole[part])
    assert masks.bounding_box(whole) == (125, 155, 285, 245)
