"""AVIF and HEIC photos in the worker: upright, with what they say of their colours and depth."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from jobs.formats import HAS_HEIC
from jobs.heif_boxes import describe
from tests.app.peaks import avif_of
from tests.factories import encoded
from worker.pixels import pictures

FORMATS = ["AVIF", pytest.param("HEIF", marks=pytest.mark.skipif(not HAS_HEIC, reason="pillow-heif is not installed"))]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RAMP = np.dstack([np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8) * 2] * 3)
RAMP[..., 1] //= 2
TOLERANCE = 12
"""Levels by which a smooth ramp differs once it is coded."""


def ramp(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(RAMP).convert(mode)


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize(("mode", "space"), [("RGB", "rgb"), ("L", "grey"), ("RGBA", "rgb")])
def test_a_photo_is_read_in_its_mode(file_format: str, mode: str, space: str) -> None:
    image = ramp(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(RAMP[..., 0]))
    picture = pictures.decode(encoded(image, file_format))
    names = {"AVIF": "avif", "HEIF": "heic"}
    assert (picture.report.format, picture.report.mode, picture.report.bits) == (names[file_format], space, 8)
    assert picture.grey == (mode == "L") and picture.report.alpha == (mode == "RGBA")
    expected = np.asarray(ramp("L").convert("RGB") if mode == "L" else ramp())
    assert np.abs(picture.rgb.astype(int) - expected).max() <= TOLERANCE
    if picture.alpha is not None:
        assert np.abs(picture.alpha.astype(int) - RAMP[..., 0]).max() <= TOLERANCE
    assert not picture.approximate


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_a_jpeg_of_that_orientation_is(orientation: int) -> None:
    def turned(file_format: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        exif = Image.Exif()
        exif[0x0112] = orientation
        return pictures.decode(encoded(ramp(), file_format, exif=exif, quality=95)).rgb

    assert turned("AVIF").shape == turned("JPEG").shape
    assert np.abs(turned("AVIF").astype(int) - turned("JPEG")).max() <= TOLERANCE


@pytest.mark.parametrize("bits", [10, 12])
def test_more_bits_are_rounded_and_reported(bits: int) -> None:
    wide = (RAMP.astype(np.uint32) * (2**bits - 1) + 127) // 255
    picture = pictures.decode(avif_of(wide[..., ::-1].astype(np.uint16), bits))
    assert picture.report.bits == bits and picture.approximate == ["depth_reduced"]
    assert np.abs(picture.rgb.astype(int) - RAMP).max() <= TOLERANCE


def with_code_points(data: bytes, primaries: int, transfer: int) -> bytes:
    at = data.index(b"nclx") + 4
    return data[:at] + primaries.to_bytes(2) + transfer.to_bytes(2) + data[at + 4 :]


@pytest.mark.parametrize(
    ("primaries", "transfer", "name", "chunks"),
    [
        (1, 13, "srgb", [(b"sRGB", b"\0")]),
        (9, 16, "cicp", [(b"cICP", bytes([9, 16, 0, 1]))]),
        (12, 13, "cicp", [(b"cICP", bytes([12, 13, 0, 1]))]),
        (2, 2, "none", []),
        (2, 13, "none", []),
        (300, 13, "none", []),
    ],
)
def test_code_points_are_carried_to_the_result(
    primaries: int, transfer: int, name: str, chunks: list[tuple[bytes, bytes]]
) -> None:
    data = with_code_points(encoded(ramp(), "AVIF"), primaries, transfer)
    assert dict(chunks) == describe(data).chunks
    picture = pictures.decode(data)
    assert (picture.report.color, picture.chunks) == (name, tuple(chunks))


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_profile_is_carried_and_wins_over_code_points(file_format: str) -> None:
    picture = pictures.decode(encoded(ramp(), file_format, icc_profile=SRGB))
    assert (picture.report.color, picture.report.color_action) == ("icc", "carried")
    assert [kind for kind, _ in picture.chunks] == [b"iCCP"]


def test_what_describes_the_alpha_channel_is_not_taken_for_the_photo() -> None:
    image = ramp("RGBA")
    image.putalpha(Image.fromarray(RAMP[..., 0]))
    data = encoded(image, "AVIF")
    assert data.count(b"av1C") == 2
    assert describe(data).bits == 8
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.mode == "RGBA"


def test_a_description_ends_whatever_the_bytes_are() -> None:
    rng, whole = np.random.default_rng(6), encoded(ramp(), "AVIF")
    for _ in range(500):
        data = bytearray(whole)
        for at in rng.integers(8, 300, 3):
            data[at] = rng.integers(256)
        assert describe(bytes(data)).bits > 0
