"""Promise 1 through the worker's own code, with noise in place of what a network would paint."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.factories import encoded, noise, png
from tests.png_files import chunks_of, png_of
from tests.worker.painting import JOB_ID, MASK, repaint
from worker.pixels import masks

MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
KEPT = MASK == 0


def pixels_of(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@settings(max_examples=120, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    mode=st.sampled_from(list(MODES)),
    soft=st.booleans(),
    crop=st.sampled_from(["auto", "off"]),
    grow=st.integers(0, 15),
    feather=st.integers(0, 15),
    padding=st.integers(0, 80),
    n=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_pixel_where_the_effective_mask_is_0_is_byte_equal(
    width: int,
    height: int,
    mode: str,
    soft: bool,
    crop: str,
    grow: int,
    feather: int,
    padding: int,
    n: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (height, width, MODES[mode]), np.uint8).squeeze(axis=2 if mode == "L" else ())
    left, top = rng.integers(0, width), rng.integers(0, height)
    mask = np.zeros((height, width), np.uint8)
    hole = mask[top : top + rng.integers(1, 120), left : left + rng.integers(1, 120)]
    hole[:] = rng.integers(0, 256, hole.shape) if soft else 255
    hole[0, 0] = 255

    report, images = repaint(
        png(photo), mask, n=n, crop=crop, crop_padding=padding, mask_grow=grow, mask_feather=feather
    )

    kept = masks.effective_mask(mask, grow, feather) == 0
    assert report.mask.changed_outside_mask == 0
    assert len(images) == n
    for data in images:
        result = pixels_of(data)
        assert result.shape == photo.shape
        assert (result[kept] == photo[kept]).all()
        if "A" in mode:
            assert (result[..., -1] >= photo[..., -1]).all()


def test_each_image_of_a_request_names_its_own_seed() -> None:
    report, images = repaint(png(np.zeros((48, 64, 3), np.uint8)), n=3, seed=7)
    named = []
    for data in images:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            named.append(json.loads(image.info["infill"])["seed"])
    assert named == report.seeds == [7, 8, 9]
    assert len({pixels_of(data).tobytes() for data in images}) == 3


def test_a_result_does_not_hold_its_jobs_id() -> None:
    """It is the key to the job, and pictures are passed on."""
    _, (data,) = repaint(png(np.zeros((48, 64, 3), np.uint8)))
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.info["infill"] and JOB_ID not in str(image.info)
    assert JOB_ID.encode() not in data


GREY = noise((48, 64))
RGB = noise((48, 64, 3))
DEEP = RGB.astype(np.uint16) * 257 + 3


def test_a_grey_photo_stays_grey_unless_colour_is_asked_for() -> None:
    _, (grey,) = repaint(png(GREY))
    _, (colour,) = repaint(png(GREY), output_color="rgb")
    assert pixels_of(grey).shape == (48, 64)
    assert pixels_of(colour).shape == (48, 64, 3)
    assert (pixels_of(colour)[KEPT] == GREY[KEPT][:, None]).all()
    assert (np.ptp(pixels_of(colour)[~KEPT], axis=1) > 0).any()
    luma = np.asarray(Image.fromarray(pixels_of(colour)).convert("L")).astype(int)
    assert np.abs(pixels_of(grey) - luma).max() <= 1  # what is painted, too


def test_a_result_of_more_than_8_bits_says_that_it_has_fewer() -> None:
    report, (result,) = repaint(png_of(DEEP, 16, 2))
    assert report.approximate == ["depth_reduced"]
    with Image.open(io.BytesIO(result)) as image:
        image.load()
        assert json.loads(image.info["infill"])["approximate"] == ["depth_reduced"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_without_its_photos_metadata_a_result_has_texts_of_its_own_alone(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 3, "maker"
    _, (result,) = repaint(encoded(Image.fromarray(RGB), kind, exif=exif), metadata="strip")
    assert {kind for kind, _ in chunks_of(result)} <= {b"IHDR", b"iTXt", b"IDAT", b"IEND"}
    assert b"maker" not in result
