"""Photos with alpha: what is painted is seen, what was transparent is no context, the rest stays."""

from typing import Any

import numpy as np
import pytest

from jobs.regions import Region
from tests.factories import mask_with, png
from tests.worker import tiny
from tests.worker.painting import POCKET, Pixels, painted, pocket
from tests.worker.tasks import task_of
from worker.pixels import regions
from worker.pixels.canvas import Canvas

GROUND, HIDDEN = (200, 180, 40), (255, 0, 255)


def opened(photo: Pixels, mask: Pixels, **asked: Any) -> Canvas:
    (canvas,) = task_of(POCKET, **asked).open({"image": png(photo), "mask": png(mask)})
    return canvas


def with_hole(alpha_in_hole: int = 0, size: int = 128) -> tuple[Pixels, Pixels]:
    """A photo whose middle is transparent, with other colours under it, and a mask of that middle."""
    photo = np.empty((size, size, 4), np.uint8)
    photo[..., :3], photo[..., 3] = GROUND, 255
    mask = mask_with(np.s_[40:88, 40:88], (size, size))
    photo[40:88, 40:88] = (*HIDDEN, alpha_in_hole)
    return photo, mask


@pytest.mark.parametrize("alpha", [0, 1, 100, 254])
def test_a_transparent_hole_is_painted_and_seen(alpha: int) -> None:
    photo, mask = with_hole(alpha)
    result = painted(photo, mask, pocket(), POCKET)
    assert (result[mask == 255][:, 3] == 255).all()
    assert np.abs(result[44:84, 44:84, :3].mean((0, 1)) - GROUND).max() < 8
    assert np.array_equal(result[mask == 0], photo[mask == 0])


def test_a_soft_mask_makes_what_it_paints_opaque_by_its_weight() -> None:
    photo, mask = with_hole(0)
    half = np.where(mask, np.uint8(160), np.uint8(0))
    result = painted(photo, half, pocket(), POCKET)
    assert (result[40:88, 40:88, 3] == 160).all()
    assert np.abs(result[44:84, 44:84, :3].mean((0, 1)) - GROUND).max() < 8  # not a tenth of what lay hidden


def test_painting_over_what_is_opaque_leaves_it_opaque() -> None:
    photo, mask = with_hole(255)
    result = painted(photo, np.where(mask, np.uint8(160), np.uint8(0)), pocket(), POCKET)
    assert (result[..., 3] == 255).all()


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_colours_hidden_under_transparency_do_not_bleed_into_the_hole(strength: float) -> None:
    photo, _ = with_hole(255)
    photo[40:88, 40:88, :3] = GROUND
    photo[:, :38] = (*HIDDEN, 0)  # beside the hole
    mask = mask_with(np.s_[40:88, 38:88], (128, 128))
    clean = photo.copy()
    clean[..., :3] = GROUND
    canvases = [opened(pixels, mask, strength=strength, masked_content="original") for pixels in (photo, clean)]
    assert np.abs(canvases[0].image.astype(int) - canvases[1].image).max() <= 2
    result = painted(photo, mask, pocket(), POCKET, strength=strength)
    assert np.abs(result[44:84, 44:84, :3].mean((0, 1)) - GROUND).max() < 8
    assert np.array_equal(result[mask == 0], photo[mask == 0])  # what is hidden stays as it was


def test_hidden_colours_are_no_context_where_the_picture_is_shrunk_either() -> None:
    photo = np.empty((1200, 1200, 4), np.uint8)
    photo[..., :3], photo[..., 3] = GROUND, 255
    photo[::2] = (*HIDDEN, 0)
    region = Region((0, 0, 1200, 1200), (512, 512), (0, 0, 512, 512))
    shown = regions.cut(np.ascontiguousarray(photo[..., :3]), region, weight=np.ascontiguousarray(photo[..., 3]))
    assert np.abs(shown[2:-2].astype(int) - GROUND).max() <= 3


def test_a_picture_that_is_transparent_but_for_the_hole_has_nothing_known() -> None:
    photo, mask = with_hole(255)
    photo[mask == 0, 3] = 0
    assert (opened(photo, mask).mask == 255).all()
    result = painted(photo, mask, tiny.model("sd", "concat"), POCKET.model_copy(update={"size_px": 64}), strength=1)
    assert (result[..., 3] == photo[..., 3]).all()


FAR = [((0, 60), "auto"), ((940, 1000), "auto"), ((0, 1), "auto"), ((0, 60), "off")]


@pytest.mark.parametrize(("columns", "crop"), FAR)
@pytest.mark.parametrize("opacity", [255, 60, 1])
def test_a_crop_is_widened_until_it_holds_something_that_is_not_transparent(
    columns: tuple[int, int], crop: str, opacity: int
) -> None:
    photo = np.zeros((200, 1000, 4), np.uint8)
    photo[..., :3] = HIDDEN
    photo[:, slice(*columns)] = (*GROUND, opacity)
    mask = mask_with(np.s_[80:120, 480:520], (200, 1000))
    result = painted(photo, mask, pocket(), POCKET, crop=crop)
    assert np.abs(result[mask == 255][:, :3].mean(0) - GROUND).max() < 8
    assert np.array_equal(result[mask == 0], photo[mask == 0])


def test_a_crop_that_holds_something_opaque_is_as_large_as_without_transparency() -> None:
    photo, mask = with_hole(0, size=700)
    running = task_of(POCKET)
    running.open({"image": png(photo), "mask": png(mask)})
    assert running.region.size == (256, 256)


def test_what_is_faint_everywhere_is_context_too() -> None:
    photo, mask = with_hole(0)
    photo[mask == 0, 3] = 40
    result = painted(photo, mask, pocket(), POCKET)
    assert np.abs(result[44:84, 44:84, :3].mean((0, 1)) - GROUND).max() < 8
