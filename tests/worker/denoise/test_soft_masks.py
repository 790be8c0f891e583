"""What is left of an object under a mask of every grey: continuous, monotone, nothing at full value."""

from itertools import pairwise

import numpy as np
import pytest

from jobs.schema import JobReport
from tests.factories import mask_with
from tests.worker import tiny
from tests.worker.painting import POCKET, Pixels, painted, pocket, run
from tests.worker.runs import no_clock, parameters, run_alone, soft_canvas
from worker.pixels.canvas import Canvas

GROUND, OBJECT = 200, 20


def photo() -> Pixels:
    """A dark square on a light base_latents."""
    pixels = np.full((128, 128, 3), GROUND, np.uint8)
    pixels[44:84, 44:84] = OBJECT
    return pixels


def left(mask: Pixels, **asked: object) -> float:
    """The share of the square's darkness that is left."""
    result = painted(photo(), mask, pocket(), POCKET, **asked).astype(float)
    return float((GROUND - result[48:80, 48:80]).mean() / (GROUND - OBJECT))


def square(value: int, margin: int = 8) -> Pixels:
    mask = np.zeros((128, 128), np.uint8)
    mask[44 - margin : 84 + margin, 44 - margin : 84 + margin] = value
    return mask


@pytest.mark.parametrize("steps", [1, 3])
def test_the_darkness_left_falls_steadily_with_the_masks_value(steps: int) -> None:
    values = [32, 64, 72, 84, 96, 104, 112, 120, 124, 128, 132, 160, 200, 240, 247, 250, 254, 255]
    found = [left(square(value), num_inference_steps=steps) for value in values]
    for (before, one), (after, other) in pairwise(zip(values, found, strict=True)):
        assert other <= one + 0.01, (before, after)
        assert one - other < 0.02 * (after - before) + 0.01, (before, after)  # no jump
    assert found[0] > 0.98 and found[1] > 0.98
    assert abs(found[-1]) < 0.02 and found[-2] < 0.02
    for value, share in zip(values, found, strict=True):
        if value >= 128:
            assert share == pytest.approx(1 - value / 255, abs=0.02)


@pytest.mark.parametrize("ground", [1, 20, 64])
def test_a_ground_that_is_not_black_is_surroundings_and_no_hole(ground: int) -> None:
    mask = np.maximum(square(255), np.uint8(ground))
    assert abs(left(mask)) < 0.02


@pytest.mark.parametrize("feather", [0, 1, 4, 16])
def test_a_thin_stroke_is_repainted_whatever_its_feather(feather: int) -> None:
    pixels, mask = np.full((128, 128, 3), GROUND, np.uint8), np.zeros((128, 128), np.uint8)
    pixels[30:98, 60:67] = OBJECT
    mask[30:98, 60:67] = 255
    result = painted(pixels, mask, pocket(), POCKET, mask_feather=feather).astype(float)
    assert (GROUND - result[30:98, 60:67]).mean() < 0.02 * (GROUND - OBJECT)


@pytest.mark.parametrize("padding", [0, 1, 32])
def test_a_hole_of_a_canvas_side_is_filled_from_its_surroundings(padding: int) -> None:
    pixels = np.full((420, 420, 3), GROUND, np.uint8)
    pixels[82:338, 82:338] = OBJECT
    mask = mask_with(np.s_[82:338, 82:338], (420, 420))
    result = painted(pixels, mask, pocket(), POCKET, crop_padding=padding, num_inference_steps=1)
    assert np.abs(result[90:330, 90:330].astype(float).mean() - GROUND) < 4


@pytest.mark.parametrize("mode", ["concat", "recompose"])
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_the_latents_leave_the_original_steadily_with_the_masks_value(mode: str, steps: int) -> None:
    model = tiny.shared_model("sd", mode)
    asked = parameters("ddim", 1.0).model_copy(update={"num_inference_steps": steps})
    (whole,) = run_alone(tiny.shared_model("sd", "recompose"), asked, soft_canvas(255))
    original, hole = whole.image_latents, (whole.mask > 0).expand_as(whole.latents)
    assert original is not None
    distance = []
    for value in (1, 32, 96, 160, 224, 250, 254, 255):
        (state,) = run_alone(model, asked, soft_canvas(value))
        distance.append(float((state.latents - original)[hole].norm()))
    assert all(later > earlier - 1e-4 for earlier, later in pairwise(distance))
    assert distance[-2] > 0.9 * distance[-1] and distance[-3] > 0.6 * distance[-1]


def test_a_concat_network_is_shown_a_soft_hole_in_part() -> None:
    model = tiny.model("sd", "concat")
    for value in (0, 51, 255):
        canvas = soft_canvas(value)
        shown = model._picture("masked", canvas).numpy()
        expected = model._image(canvas.image).numpy() * (1 - canvas.mask / 255)
        assert np.allclose(shown, expected, atol=1e-5)
        (state,) = model.prepare(canvas, parameters("ddim", 1.0), no_clock)
        assert state.extra_channels is not None
        assert float(state.extra_channels[:, :1].max()) == pytest.approx(value / 255)


def test_cells_outside_a_soft_mask_are_left_to_a_concat_network() -> None:
    """As diffusers leaves them: only cells inside the mask are held to the original."""
    hard, soft = soft_canvas(255), soft_canvas(250)
    states = [run_alone(tiny.model("sd", "concat"), parameters("ddim", 1.0), canvas)[0] for canvas in (hard, soft)]
    outside = (states[0].mask == 0).expand_as(states[0].latents)
    original = states[1].image_latents
    assert original is not None
    assert not np.allclose(states[1].latents[outside], original[outside], atol=1e-3)
    assert states[1].soft and not states[0].soft


def test_the_fill_that_is_painted_on_is_soft_as_the_mask_is() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3), np.uint8)
    mask = mask_with(np.s_[20:44, 20:44], (64, 64))
    hard = Canvas(image, mask).filled.astype(float)
    for value in (1, 100, 200):
        soft = Canvas(image, np.where(mask, np.uint8(value), np.uint8(0))).filled
        mixed = image + (hard - image) * value / 255
        assert np.abs(soft - mixed).max() <= 0.51


@pytest.mark.parametrize(("value", "feather", "soft"), [(160, 0, True), (255, 0, False), (255, 6, True)])
def test_the_report_says_whether_the_effective_mask_is_soft(value: int, feather: int, soft: bool) -> None:
    report = run(photo(), square(value), pocket(), POCKET, num_inference_steps=1, mask_feather=feather).outcome
    assert isinstance(report, JobReport)
    assert report.mask.soft is soft
    if not feather:
        assert report.mask.coverage == pytest.approx((56 / 128) ** 2 * value / 255, abs=1e-5)
