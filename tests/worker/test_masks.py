import numpy as np
import pytest
import torch

from worker import masks


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
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 10:20] = 255
    mask[30, 50] = value
    assert masks.is_soft(mask) is soft


def test_feathering_never_makes_a_mask_vanish() -> None:
    dot = np.zeros((64, 64), np.uint8)
    dot[30, 30] = 255
    assert masks.effective_mask(dot, 0, 40).any()


def test_the_uploaded_mask_is_left_as_it_is() -> None:
    mask = box()
    before = mask.copy()
    masks.effective_mask(mask, 5, 5)
    assert (mask == before).all()


def test_an_empty_mask_has_no_bounding_box() -> None:
    assert masks.bounding_box(np.zeros((8, 8), np.uint8)) is None


def test_a_stroke_thinner_than_a_cell_still_marks_its_cells() -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[:, 13] = 255
    assert masks.latent_mask(mask, 8)[0, 0].tolist() == [[0, 1, 0, 0]] * 4


def test_a_grey_value_is_released_at_the_step_it_says() -> None:
    values = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    assert masks.release_steps(values, 20).tolist() == [0, 5, 10, 15, 20]


def test_white_is_never_held_and_black_always() -> None:
    release = masks.release_steps(torch.tensor([1.0, 0.0]), 10)
    for index in range(10):
        assert masks.held(release, index).tolist() == [0, 1]


def test_half_grey_is_held_for_half_of_the_steps() -> None:
    release = masks.release_steps(torch.tensor([128 / 255]), 10)
    assert [int(masks.held(release, index)) for index in range(10)] == [1] * 5 + [0] * 5
