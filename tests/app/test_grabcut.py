"""Finding a subject: points and boxes say where, the answer is the same each time, and its score drops in doubt."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.grabcut import find
from app.selections import Selection, selection_of
from app.subject_masks import LEAST_SCORE, SMALL_PX, find_mask
from jobs.errors import InvalidField
from jobs.schema import InpaintRequest
from tests.app.pictures import with_orientation
from tests.app.subjects import BESIDE, BOX, ON, SIZE, Bytes, iou, photo_of_subject, picture, truth

SELECTIONS: dict[str, dict[str, Any]] = {
    "a box": {"mask_box": [BOX], "mask_subject": "foreground"},
    "a point": {"mask_points": [ON]},
    "points": {"mask_points": [ON, BESIDE]},
    "points in a box": {"mask_points": [ON], "mask_box": [BOX]},
    "the picture": {"mask_subject": "foreground"},
    "a box of everything": {"mask_subject": "foreground", "mask_box": [[0, 0, *SIZE]]},
}


def selection(**fields: Any) -> Selection:
    return selection_of(InpaintRequest.model_validate(fields))


def decoded(png: bytes) -> Bytes:
    with Image.open(io.BytesIO(png)) as mask:
        assert (mask.format, mask.mode) == ("PNG", "L")
        return np.asarray(mask)


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_subject_is_found_and_twice_the_same(name: str) -> None:
    asked = selection(**SELECTIONS[name])
    found = find(picture(), asked)
    assert iou(found.subject, truth()) > 0.97
    assert found.score > 0.7
    again = find(picture(), asked)
    assert again.score == found.score and np.array_equal(again.subject, found.subject)


def test_a_subject_that_is_cut_off_reaches_the_edge() -> None:
    below = find(np.ascontiguousarray(picture()[:52]), Selection())
    assert iou(below.subject, truth()[:52]) > 0.95 and below.subject[51, 44]
    aside = find(
        np.ascontiguousarray(picture()[:, 44:]), selection(mask_subject="foreground", mask_box=[[0, 24, 26, 76]])
    )
    assert iou(aside.subject, truth()[:, 44:]) > 0.95 and aside.subject[50, 0]


def test_of_two_alike_only_the_one_with_a_point_is_the_subject() -> None:
    two = np.hstack([picture(), picture()])
    found = find(two, selection(mask_points=[ON]))
    assert iou(found.subject, np.hstack([truth(), truth() * 0])) > 0.95


def test_a_point_beside_the_subject_keeps_its_hole_open() -> None:
    ring = np.array(picture())
    ring[48:53, 42:47] = picture()[:5, :5]
    on = [30, 50, 1]
    without, held = (find(ring, selection(mask_points=points)) for points in ([on], [on, [44, 50, 0]]))
    assert without.subject[50, 44] and not held.subject[50, 44]


GROUNDS: dict[str, Bytes] = {
    "flat": np.full((96, 120, 3), 90, np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (96, 120, 3), np.uint8),
    "squares": np.kron(np.indices((12, 15)).sum(0) % 2, np.ones((8, 8)))[..., None].repeat(3, 2).astype(np.uint8) * 255,
}


@pytest.mark.parametrize("ground", GROUNDS)
def test_where_nothing_differs_nothing_is_found(ground: str) -> None:
    for fields in ({"mask_subject": "foreground"}, {"mask_box": [BOX], "mask_subject": "foreground"}):
        assert find(GROUNDS[ground], selection(**fields)).score < LEAST_SCORE


def test_a_drawing_without_grain_comes_to_an_end() -> None:
    """GrabCut alone takes more than a minute of processor time for it."""
    black_or_white = np.random.default_rng(0).integers(0, 2, (256, 256, 1), np.uint8).repeat(3, 2) * 255
    assert find(black_or_white, Selection()).score < LEAST_SCORE


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_coordinates_are_those_of_the_upright_photo(orientation: int) -> None:
    stored = with_orientation(Image.fromarray(picture()), orientation, "PNG")
    with Image.open(io.BytesIO(with_orientation(Image.fromarray(truth()), orientation, "PNG"))) as file:
        exif_turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
        turn = exif_turns.get(orientation)
        upright = np.asarray(file if turn is None else file.transpose(Image.Transpose(turn)))
    x, y = np.argwhere(upright > 0).mean(axis=0)[::-1]
    found, _ = find_mask(stored, Selection(points=((float(x), float(y), 1),)), 10**6)
    assert found is not None
    assert iou(decoded(found.png), upright) > 0.95


def test_a_large_photo_is_looked_at_small_and_its_mask_follows_the_photos_own_edge() -> None:
    size = (SIZE[0] * 13 + 5, SIZE[1] * 13 + 3)
    assert size[0] * size[1] > 16 * SMALL_PX
    found, score = find_mask(photo_of_subject(size), selection(mask_subject="foreground"), 10**8)
    assert found is not None and found.report.score == score
    mask = decoded(found.png)
    assert mask.shape == size[::-1] and set(np.unique(mask)) == {0, 255}
    assert iou(mask, truth(size)) > 0.985


def test_the_background_is_all_but_the_subject() -> None:
    masks = [
        find_mask(photo_of_subject(), selection(mask_subject=subject, mask_box=[BOX]), 10**6)[0]
        for subject in ("foreground", "background")
    ]
    first, second = (decoded(mask.png) for mask in masks if mask)
    assert np.array_equal(first, 255 - second)
    assert [mask.report.subject for mask in masks if mask] == ["foreground", "background"]


def test_what_is_transparent_shows_no_colour() -> None:
    hidden = np.dstack([picture(), np.zeros(SIZE[::-1], np.uint8)])
    buffer = io.BytesIO()
    Image.fromarray(hidden).save(buffer, "PNG")
    assert find_mask(buffer.getvalue(), selection(mask_subject="foreground"), 10**6)[0] is None


@pytest.mark.parametrize("size", [(400, 12), (4, 4), (20_000, 40)])
def test_a_picture_that_is_too_narrow_is_refused(size: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    with pytest.raises(InvalidField, match=f"image: {size[0]} x {size[1]} pixels are too narrow"):
        find_mask(buffer.getvalue(), Selection(), 10**7)


def test_points_that_become_one_pixel_are_refused() -> None:
    near = selection(mask_points=[[100, 100, 1], [101, 100, 0]])
    with pytest.raises(InvalidField, match="mask_points: a point on the subject and one beside it"):
        find_mask(photo_of_subject((1920, 1536)), near, 10**8)
