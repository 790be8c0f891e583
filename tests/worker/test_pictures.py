"""What "the decoded input" is, for every kind of upload the API takes."""

import io
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from jobs.errors import Undecodable
from worker import pictures

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
GREY = RGB[..., 0]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_lossless_rgb_is_taken_as_it_is(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = pictures.decode(saved(Image.fromarray(RGB), kind, **options))
    assert (picture.rgb == RGB).all()
    assert picture.alpha is None and picture.size == (30, 20)


def test_jpeg_is_taken_as_pillow_decodes_it() -> None:
    data = saved(Image.fromarray(RGB), "JPEG", quality=90)
    with Image.open(io.BytesIO(data)) as image:
        assert (pictures.decode(data).rgb == np.asarray(image)).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_kept_aside(kind: str) -> None:
    rgba = np.dstack([RGB, GREY])
    picture = pictures.decode(saved(Image.fromarray(rgba), kind))
    assert picture.alpha is not None
    assert (picture.rgb == RGB).all() and (picture.alpha == GREY).all()


def test_grey_becomes_rgb_of_equal_values() -> None:
    picture = pictures.decode(saved(Image.fromarray(GREY)))
    assert (picture.rgb == GREY[..., None]).all() and picture.alpha is None


def test_grey_with_alpha() -> None:
    picture = pictures.decode(saved(Image.merge("LA", [Image.fromarray(GREY)] * 2)))
    assert (picture.rgb == GREY[..., None]).all()
    assert picture.alpha is not None and (picture.alpha == GREY).all()


def test_black_and_white() -> None:
    picture = pictures.decode(saved(Image.fromarray(GREY > 127)))
    assert (picture.rgb == np.where(GREY > 127, 255, 0)[..., None]).all()


def test_palette_with_a_transparent_colour() -> None:
    image = Image.fromarray(GREY // 64, "P")
    image.putpalette([value for index in range(4) for value in (index * 60, 10, 200)])
    picture = pictures.decode(saved(image, transparency=2))
    assert picture.alpha is not None
    assert (picture.alpha == np.where(GREY // 64 == 2, 0, 255)).all()
    assert (picture.rgb[..., 0] == GREY // 64 * 60).all()


@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_16_bit_grey_is_rounded_to_8(kind: str) -> None:
    values = (GREY.astype(np.int32) * 257 - 100).clip(0).astype(np.uint16)
    data = cv2.imencode(kind, values)[1].tobytes()
    assert (pictures.decode(data).rgb == GREY[..., None]).all()


@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_dark_16_bit_grey_stays_dark(kind: str) -> None:
    data = cv2.imencode(kind, np.full((8, 8), 200, np.uint16))[1].tobytes()
    assert pictures.decode(data).rgb.max() <= 1


@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_16_bit_rgb_is_reduced_to_8(kind: str) -> None:
    values = RGB[..., ::-1].astype(np.uint16) * 257
    data = cv2.imencode(kind, values)[1].tobytes()
    assert (pictures.decode(data).rgb == RGB).all()


def test_cmyk_becomes_srgb() -> None:
    picture = pictures.decode(saved(Image.fromarray(RGB).convert("CMYK"), "TIFF"))
    assert (picture.rgb == RGB).all() and picture.icc_profile is None


def test_the_profile_of_rgb_values_is_carried_and_the_values_are_not_converted() -> None:
    picture = pictures.decode(saved(Image.fromarray(RGB), icc_profile=SRGB))
    assert picture.icc_profile == SRGB and (picture.rgb == RGB).all()


def test_a_profile_of_grey_values_is_not_carried_to_rgb() -> None:
    assert pictures.decode(saved(Image.fromarray(GREY), icc_profile=SRGB)).icc_profile is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_picture_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = pictures.decode(saved(Image.fromarray(RGB), exif=exif))
    assert picture.size == ((30, 20) if orientation < 5 else (20, 30))


@pytest.mark.parametrize("data", [b"", b"no picture", saved(Image.fromarray(RGB))[:200]])
def test_what_cannot_be_decoded_says_so(data: bytes) -> None:
    with pytest.raises(Undecodable):
        pictures.decode(data)
