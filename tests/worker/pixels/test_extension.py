"""``task=extend``: the old photo is a byte-equal rectangle of the new picture, with noise in place of a network."""

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from jobs.errors import Undecodable
from jobs.schema import Extension
from tests.factories import encoded, noise, png
from tests.icc_profiles import rgb_profile
from tests.png_files import RGB, chunks_of, iccp, png_of
from tests.worker.painting import ENTRY, repaint
from tests.worker.tasks import task_of
from worker.pixels import pictures

Pixels = NDArray[np.uint8]
Borders = tuple[int, int, int, int]
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
PHOTO = noise((48, 64, 3))


def around(size: tuple[int, int], borders: Borders) -> Extension:
    left, top, right, bottom = borders
    width, height = size[0] + left + right, size[1] + top + bottom
    return Extension(left=left, top=top, right=right, bottom=bottom, width=width, height=height)


def mask_of(extension: Extension) -> Pixels:
    mask = np.full(extension.size[::-1], 255, np.uint8)
    left, top, right, bottom = extension.photo
    mask[top:bottom, left:right] = 0
    return mask


def extend(photo: bytes, size: tuple[int, int], borders: Borders, **asked: Any) -> tuple[Extension, Any, list[bytes]]:
    extension = around(size, borders)
    return extension, *repaint(photo, mask_of(extension), task="extend", extend=extension, **asked)


def within(result: bytes, extension: Extension) -> Pixels:
    """The old photo's part of the new picture."""
    left, top, right, bottom = extension.photo
    with Image.open(io.BytesIO(result)) as image:
        assert image.size == extension.size
        return np.asarray(image)[top:bottom, left:right]


SIDE = st.integers(0, 90)


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 120),
    height=st.integers(1, 120),
    mode=st.sampled_from(list(MODES)),
    borders=st.tuples(SIDE, SIDE, SIDE, SIDE).filter(any),
    crop=st.sampled_from(["auto", "off"]),
    padding=st.integers(0, 80),
    content=st.sampled_from(["original", "noise", "fill"]),
    n=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_old_photo_is_a_byte_equal_rectangle_of_the_new_picture(
    width: int, height: int, mode: str, borders: Borders, crop: str, padding: int, content: str, n: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (height, width, MODES[mode]), np.uint8).squeeze(axis=2 if mode == "L" else ())
    asked = {"n": n, "crop": crop, "crop_padding": padding, "masked_content": content}
    extension, report, images = extend(png(photo), (width, height), borders, **asked)
    assert report.mask.changed_outside_mask == 0 and len(images) == n
    for data in images:
        np.testing.assert_array_equal(within(data, extension), photo)
        if "A" in mode:
            with Image.open(io.BytesIO(data)) as image:
                assert (np.asarray(image)[..., -1][mask_of(extension) > 0] == 255).all()


ORIENTED = Image.Exif()
ORIENTED[0x0112] = 6
KINDS: dict[str, bytes] = {
    "16 bits": png_of(PHOTO.astype(np.uint16) * 257 + 3, 16, RGB),
    "a palette": encoded(Image.fromarray(PHOTO).quantize(50)),
    "a palette with a transparent colour": encoded(Image.fromarray(PHOTO).quantize(50), transparency=3),
    "a transparent colour": encoded(Image.fromarray(PHOTO), transparency=tuple(PHOTO[0, 0].tolist())),
    "a profile": png_of(PHOTO, 8, RGB, iccp(rgb_profile(2.2))),
    "an orientation": encoded(Image.fromarray(PHOTO), "JPEG", exif=ORIENTED),
    "inks": encoded(Image.fromarray(PHOTO).convert("CMYK"), "TIFF"),
    "black and white": encoded(Image.fromarray(PHOTO).convert("1")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_so_it_is_for_every_kind_of_file_with_the_statement_of_its_colours(kind: str) -> None:
    decoded = pictures.decode(KINDS[kind])
    extension, report, (result,) = extend(KINDS[kind], decoded.size, (5, 60, 0, 7))
    np.testing.assert_array_equal(within(result, extension), decoded.channels_of(decoded.pixels))
    assert decoded.size == ((48, 64) if kind == "an orientation" else (64, 48))
    assert [chunk for chunk in chunks_of(result) if chunk[0] in dict(decoded.chunks)] == list(decoded.chunks)
    assert (kind == "a profile") == (b"iCCP" in dict(chunks_of(result)))
    assert report.picture == decoded.report


def test_the_picture_says_what_was_added() -> None:
    extension, report, (result,) = extend(png(PHOTO), (64, 48), (1, 2, 3, 4))
    with Image.open(io.BytesIO(result)) as image:
        image.load()
        told = json.loads(image.info["infill"])
    assert told["extend"] == extension.model_dump()
    assert (report.images[0].width, report.images[0].height) == extension.size == (68, 54)
    _, (plain,) = repaint(png(PHOTO))
    with Image.open(io.BytesIO(plain)) as image:
        image.load()
        assert "extend" not in json.loads(image.info["infill"])


def test_the_network_sees_no_pixel_of_the_new_border_and_all_of_the_photo() -> None:
    extension = around((64, 48), (0, 0, 30, 0))
    one = task_of(ENTRY, task="extend", extend=extension)
    (canvas,) = one.open({"image": png(PHOTO), "mask": png(mask_of(extension))})
    left, top, right, bottom = one.region.box
    shown = mask_of(extension)[top:bottom, left:right]
    x, y, x_end, y_end = one.region.inner
    np.testing.assert_array_equal(canvas.mask[y:y_end, x:x_end], shown)
    assert (shown == 0).any() and right == 94


def test_a_photo_of_another_size_than_was_planned_is_not_extended() -> None:
    extension = around((64, 48), (1, 1, 1, 1))
    with pytest.raises(Undecodable, match="The mask is"):
        repaint(png(PHOTO[:-1]), mask_of(extension), task="extend", extend=extension)


# ---- what the borders begin with


def begun(photo: Pixels, borders: Borders) -> tuple[Extension, Pixels]:
    """The canvas of the whole picture, filled, without what it is padded by."""
    extension = around((photo.shape[1], photo.shape[0]), borders)
    one = task_of(ENTRY, task="extend", extend=extension, crop="off")
    (canvas,) = one.open({"image": png(photo), "mask": png(mask_of(extension))})
    x, y, x_end, y_end = one.region.inner
    assert one.region.scale == 1
    return extension, canvas.filled[y:y_end, x:x_end]


def test_a_horizon_goes_on_to_both_sides_and_colours_above_and_below() -> None:
    photo = np.zeros((48, 64, 3), np.uint8)
    photo[:24], photo[24:] = (40, 120, 220), (200, 180, 140)
    extension, filled = begun(photo, (30, 20, 30, 20))
    height = extension.height
    np.testing.assert_array_equal(filled[20:68, 30:94], photo)
    for column in (0, 29, 94, 123):
        assert np.abs(filled[: height // 2 - 16, column].astype(int) - photo[0, 0]).max() <= 12
        assert np.abs(filled[height // 2 + 16 :, column].astype(int) - photo[-1, 0]).max() <= 12
    assert np.abs(filled[42:44, 29].astype(int) - photo[23, 0]).max() < 40  # next to the photo it is still sharp


def test_detail_goes_on_from_the_edge_alone() -> None:
    grain = (noise((48, 64, 1), seed=2) // 8).repeat(3, axis=2)
    photo = np.full((48, 64, 3), 100, np.uint8) + grain
    _, plain = begun(photo, (0, 0, 60, 0))
    assert plain[:, 64:].std() > 2
    photo[10:30, 5:25] = 255  # 39 pixels from the edge
    _, filled = begun(photo, (0, 0, 60, 0))
    np.testing.assert_array_equal(filled[:, 64:], plain[:, 64:])


def test_colours_hidden_under_transparency_do_not_go_on() -> None:
    photo = np.zeros((48, 64, 4), np.uint8)
    photo[...] = (200, 180, 40, 255)
    photo[:16] = (255, 0, 255, 0)
    _, filled = begun(photo, (0, 0, 40, 10))
    assert np.abs(filled.astype(int) - (200, 180, 40)).max() <= 6
