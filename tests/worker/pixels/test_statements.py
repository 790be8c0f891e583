"""Which statement of a photo's colours holds, and what its result's PNG says."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from jobs.png_chunks import profile_in
from tests import tiff_files
from tests.factories import encoded
from tests.icc_profiles import grey_profile
from tests.png_files import with_chunks
from tests.tiff_files import tiff_of
from tests.worker.photos import GREY, RGB
from worker.pixels import pictures

GREY_PROFILE = grey_profile(1.0)
LINEAR = (b"gAMA", struct.pack(">I", 100_000))
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile_of(picture: pictures.Picture) -> bytes | None:
    return profile_in(dict(picture.chunks)[b"iCCP"])


def test_cmyk_becomes_srgb() -> None:
    picture = pictures.decode(encoded(Image.fromarray(RGB).convert("CMYK"), "TIFF"))
    assert (picture.rgb == RGB).all() and picture.chunks == ((b"sRGB", b"\0"),)


@pytest.mark.parametrize(
    ("inks", "expected"),
    [((0, 0, 0, 0), (255, 255, 255)), ((255, 0, 0, 0), (0, 255, 255)), ((0, 0, 0, 255), (0, 0, 0))],
)
def test_the_inverted_inks_of_a_jpeg_are_read_as_adobe_writes_them(
    inks: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    rgb = pictures.decode(encoded(Image.new("CMYK", (8, 8), inks), "JPEG")).rgb
    assert np.abs(rgb.astype(int) - expected).max() <= 2


def test_ycck_is_read_as_adobe_writes_it() -> None:
    stored = 0, 128, 128, 255  # inverted white: no luminance, no chroma, and no black
    data = bytearray(encoded(Image.new("CMYK", (8, 8), tuple(255 - value for value in stored)), "JPEG"))
    data[data.index(b"Adobe") + 11] = 2  # the transform: YCCK
    assert pictures.decode(bytes(data)).rgb.min() >= 253


def test_the_profile_of_rgb_values_is_carried_and_the_values_are_not_converted() -> None:
    picture = pictures.decode(encoded(Image.fromarray(RGB), icc_profile=SRGB))
    assert profile_of(picture) == SRGB and (picture.rgb == RGB).all()


def test_the_profile_of_grey_values_is_carried_and_the_values_are_not_converted() -> None:
    picture = pictures.decode(encoded(Image.fromarray(GREY), icc_profile=GREY_PROFILE))
    assert profile_of(picture) == GREY_PROFILE and (picture.rgb == GREY[..., None]).all()


def test_a_profile_of_rgb_values_is_not_carried_to_grey() -> None:
    picture = pictures.decode(encoded(Image.fromarray(GREY), icc_profile=SRGB))
    assert picture.chunks == ((b"sRGB", b"\0"),) and (picture.rgb == GREY[..., None]).all()


def test_a_grey_photo_asked_for_in_colour_becomes_srgb_by_its_profile() -> None:
    picture = pictures.decode(encoded(Image.fromarray(GREY), icc_profile=GREY_PROFILE), "rgb")
    expected = np.where(GREY > 0, 269.0 * (GREY / 255) ** (1 / 2.4) - 14.0, 0)  # the sRGB curve above its straight part
    bright = GREY > 10
    assert np.abs(picture.rgb[..., 0].astype(float) - expected)[bright].max() < 1.5
    assert (picture.rgb == picture.rgb[..., :1]).all() and not picture.grey
    assert picture.chunks == ((b"sRGB", b"\0"),) and picture.report.color_action == "converted"


def test_other_statements_of_a_grey_photo_are_carried_to_colour() -> None:
    picture = pictures.decode(with_chunks(encoded(Image.fromarray(GREY)), LINEAR), "rgb")
    assert picture.chunks == (LINEAR,) and (picture.rgb == GREY[..., None]).all() and not picture.grey


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("profile", [b"no profile", SRGB[:36] + b"xxxx" + SRGB[40:], SRGB[:200], GREY_PROFILE[:130]])
def test_an_unusable_profile_is_reported_and_does_no_harm(mode: str, profile: bytes) -> None:
    photo = Image.fromarray(RGB).convert(mode)
    kind = "TIFF" if mode == "CMYK" else "PNG"
    picture = pictures.decode(encoded(photo, kind, icc_profile=profile))
    assert (picture.rgb == np.asarray(photo.convert("RGB"))).all()
    assert (picture.report.color, picture.report.color_action) == ("icc", "ignored")


def test_a_profile_of_other_values_is_ignored_and_the_next_statement_holds() -> None:
    photo = with_chunks(encoded(Image.fromarray(RGB), icc_profile=GREY_PROFILE), LINEAR)
    picture = pictures.decode(photo)
    assert picture.chunks == (LINEAR,) and picture.report.color == "gama_chrm"
    assert pictures.decode(encoded(Image.fromarray(RGB), icc_profile=GREY_PROFILE)).report.color_action == "ignored"


@pytest.mark.parametrize(
    "said",
    [
        (b"gAMA", bytes(4)),
        (b"gAMA", bytes(3)),
        (b"cHRM", bytes(31)),
        (b"sRGB", b"\4"),
        (b"sRGB", b""),
        (b"cICP", b"\1\2\0\1"),
        (b"cICP", b"\1\15\1\1"),
        (b"iCCP", b"icc\0\0no stream"),
        (b"iCCP", b"icc\0\0" + zlib.compress(SRGB)[:-9]),
        (b"iCCP", b"icc\0\1" + zlib.compress(SRGB)),
        (b"iCCP", b""),
        (b"pHYs", bytes(9)),
        (b"pHYs", b"\0\0\1\0\0\0\1\0"),
    ],
    ids=lambda said: said[0].decode(),
)
def test_chunks_that_say_nothing_are_not_carried(said: tuple[bytes, bytes]) -> None:
    picture = pictures.decode(with_chunks(encoded(Image.fromarray(RGB)), said))
    assert picture.chunks == () and (picture.rgb == RGB).all()


def test_chunks_are_written_in_the_order_of_their_precedence_and_one_of_profile_and_srgb() -> None:
    stated = [(b"cLLI", bytes(8)), LINEAR, (b"sRGB", b"\0"), (b"cICP", bytes([12, 13, 0, 1])), (b"mDCV", bytes(24))]
    picture = pictures.decode(with_chunks(encoded(Image.fromarray(RGB), icc_profile=SRGB, dpi=(300, 300)), *stated))
    assert [kind for kind, _ in picture.chunks] == [b"cICP", b"iCCP", b"gAMA", b"mDCV", b"cLLI", b"pHYs"]


GAMMA_18 = tuple(round((value / 255) ** 1.8 * 65_535) for value in range(256))
STEPS = (0,) * 128 + (65_535,) * 128


@pytest.mark.parametrize(
    ("curve", "expected", "action"),
    [(GAMMA_18, 55_556, "carried"), (GAMMA_18 * 3, 55_556, "carried"), (STEPS, 0, "ignored")],
    ids=["one", "three", "no power"],
)
def test_a_transfer_function_of_a_tiff_is_carried_where_a_png_can_say_it(
    curve: tuple[int, ...], expected: int, action: str
) -> None:
    picture = pictures.decode(tiff_of(RGB, tiff_files.RGB, {tiff_files.TRANSFER_FUNCTION: curve}))
    gamma = int.from_bytes(dict(picture.chunks).get(b"gAMA", b""))
    assert abs(gamma - expected) < 100
    assert (picture.report.color, picture.report.color_action) == ("exif", action)
