"""What grey values of a mask mean: one rule, continuous and monotone."""

import numpy as np
import pytest

from jobs import mask_values

LEVELS = np.arange(256, dtype=np.uint8)[None]


def test_a_few_levels_at_either_end_are_noise_and_counted() -> None:
    snapped, changed = mask_values.snap(LEVELS)
    noise = mask_values.NOISE
    assert snapped[0, : noise + 1].tolist() == [0] * (noise + 1)
    assert snapped[0, -noise - 1 :].tolist() == [255] * (noise + 1)
    assert np.array_equal(snapped[0, noise + 1 : -noise - 1], LEVELS[0, noise + 1 : -noise - 1])
    assert changed == 2 * noise
    assert 2 <= noise <= 12


def test_a_mask_without_noise_is_left_as_it_is() -> None:
    mask = np.array([[0, 100, 255]], np.uint8)
    snapped, changed = mask_values.snap(mask)
    assert snapped is mask and changed == 0


def test_what_is_hidden_grows_steadily_from_nothing_to_everything() -> None:
    hidden = mask_values.hidden(LEVELS)[0].astype(int)
    assert hidden[0] == 0 and hidden[mask_values.KNOWN] == 0
    assert hidden[mask_values.HIDDEN] == 255 == hidden[255]
    steps = np.diff(hidden)
    assert steps.min() == 0 and steps.max() <= 4


def test_up_to_a_quarter_is_surroundings_and_from_a_half_on_is_hole() -> None:
    hidden = mask_values.hidden(np.array([[20, 63, 96, 128, 200]], np.uint8))[0]
    assert hidden[:2].tolist() == [0, 0] and 100 < hidden[2] < 155 and hidden[3:].tolist() == [255, 255]


@pytest.mark.parametrize(("lowest", "everything"), [(255, True), (128, True), (127, False), (0, False)])
def test_a_mask_hides_everything_where_no_pixel_is_even_partly_known(lowest: int, everything: bool) -> None:
    mask = np.full((4, 4), 255, np.uint8)
    mask[2, 1] = lowest
    assert mask_values.hides_everything(mask) is everything
    assert everything is bool(mask_values.hidden(mask).min() == 255)


def test_coverage_counts_grey_in_part() -> None:
    assert mask_values.coverage(np.array([[0, 0, 255, 255]], np.uint8)) == 0.5
    assert mask_values.coverage(np.full((3, 5), 51, np.uint8)) == 0.2


def test_the_ends_of_a_lossy_file_are_wider_and_its_ramp_has_no_step() -> None:
    values, changed = mask_values.snap(LEVELS, lossy=True)
    levels = values[0].astype(int)
    wide = mask_values.LOSSY_NOISE
    assert set(levels[: wide + 1]) == {0} and set(levels[-wide - 1 :]) == {255}
    assert np.diff(levels).min() >= 0 and np.diff(levels).max() <= 2
    assert abs(levels[127] - 127) <= 1 and changed == 2 * wide
