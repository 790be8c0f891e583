"""A mask's values are read with all their bits, in any layout, and compared in the file's own bits."""

import struct

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from app.masks import decode_mask
from jobs.errors import DoubtfulMask, InvalidMask, MaskSizeMismatch
from jobs.mask_values import snap
from jobs.samples import TURNS
from jobs.schema import MaskMode, MaskScale
from tests import png_files, tiff_files
from tests.app.settling import pixels
from tests.factories import noise
from tests.png_files import png_of
from tests.tiff_files import BITS, PLANES, SAMPLE_FORMAT, WHITE_IS_ZERO, tiff_of

GREY = noise((40, 50))
WIDE = GREY.astype(np.uint16) * 257
EXPECTED = snap(GREY)[0]


def settled(data: bytes, mode: MaskMode = "white", scale: MaskScale = "full") -> NDArray[np.uint8]:
    return pixels(decode_mask(data, mode, (GREY.shape[1], GREY.shape[0]), 1_000_000, scale))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_transparent_value_is_compared_in_the_files_own_bits(bits: int) -> None:
    top = 2**bits - 1
    samples = (GREY >> (8 - bits)).astype(np.uint16) if bits < 8 else GREY.astype(np.uint16) * (top // 255)
    samples[0, :2] = [top, top - 1]  # one level beside
    for value in (top, top | 0xFF << bits & 0xFFFF):  # only the lowest bits count
        data = png_of(samples, bits, png_files.GREY, (b"tRNS", struct.pack(">H", value)))
        np.testing.assert_array_equal(settled(data, "alpha"), np.where(samples == top, 255, 0))
        with pytest.raises(InvalidMask, match="parts of it are transparent"):
            settled(data)


def test_a_transparent_colour_of_16_bits_is_compared_with_all_of_them() -> None:
    samples = np.dstack([WIDE] * 3)
    samples[0, :2] = [[65_535] * 3, [65_534, 65_535, 65_535]]
    data = png_of(samples, 16, png_files.RGB, (b"tRNS", struct.pack(">3H", *[65_535] * 3)))
    np.testing.assert_array_equal(settled(data, "alpha"), np.where((samples == 65_535).all(axis=2), 255, 0))


@pytest.mark.parametrize("order", ["<", ">"])
def test_floats_whose_white_is_zero_are_no_negative(order: str) -> None:
    values = (1 - GREY / np.float32(255)).astype(f"{order}f4")
    np.testing.assert_array_equal(settled(tiff_of(values, WHITE_IS_ZERO, {SAMPLE_FORMAT: (3,)})), EXPECTED)


def test_a_tiff_whose_white_is_zero_is_no_negative() -> None:
    np.testing.assert_array_equal(settled(tiff_of(65_535 - WIDE, WHITE_IS_ZERO)), EXPECTED)
    np.testing.assert_array_equal(settled(tiff_of(255 - GREY, WHITE_IS_ZERO)), EXPECTED)
    np.testing.assert_array_equal(settled(tiff_of(WIDE, WHITE_IS_ZERO), "black"), EXPECTED)


def test_white_is_white_in_a_mask_of_12_bits() -> None:
    packed = np.array([[0xFF, 0xF0, 0x00, 0x80, 0x0F, 0xFF]], np.uint8)  # 4095, 0, 2048, 4095
    data = tiff_of(packed, tiff_files.BLACK_IS_ZERO, {256: (4,), BITS: (12,)})
    assert pixels(decode_mask(data, "white", (4, 1), 100)).tolist() == [[255, 0, 128, 255]]


LAYOUTS = {
    "grey with alpha": (png_files.GREY_ALPHA, 1, 1),
    "RGB": (png_files.RGB, 3, 0),
    "RGB with alpha": (png_files.RGB_ALPHA, 3, 1),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_16_bits_are_rounded_and_counted_in_every_layout(name: str) -> None:
    kind, channels, alpha = LAYOUTS[name]

    def data(values: NDArray[np.uint16]) -> bytes:
        return png_of(np.dstack([values] * channels + [np.full_like(values, 65_535)] * alpha), 16, kind)

    every = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    found = pixels(decode_mask(data(every), "white", (256, 256), 100_000))
    np.testing.assert_array_equal(found, snap(np.rint(every / 257).astype(np.uint8))[0])
    dark = GREY.astype(np.uint16)
    with pytest.raises(DoubtfulMask, match="largest grey value is 255 of 65535"):
        settled(data(dark))
    np.testing.assert_array_equal(settled(data(dark), scale="binary"), np.where(GREY > 0, 255, 0))


def test_an_alpha_channel_of_16_bits_is_read_whole() -> None:
    data = png_of(np.dstack([WIDE * 0, GREY.astype(np.uint16)]), 16, png_files.GREY_ALPHA)
    with pytest.raises(DoubtfulMask, match="largest alpha value is 255 of 65535"):
        settled(data, "alpha_inverted")
    np.testing.assert_array_equal(settled(data, "alpha_inverted", "binary"), np.where(GREY > 0, 255, 0))


UNREADABLE = {
    "signed": (tiff_of((GREY // 2).astype(np.int8), 1, {SAMPLE_FORMAT: (2,)}), "signed values"),
    "signed, 16 bits": (tiff_of((WIDE // 2).astype(np.int16), 1, {SAMPLE_FORMAT: (2,)}), "signed values"),
    "separate planes": (tiff_of(np.dstack([WIDE] * 3), tiff_files.RGB, {PLANES: (2,)}), "separate planes"),
    "Lab": (tiff_of(np.dstack([GREY] * 3), 8), "colour mode LAB"),
    "a layout that no decoder has": (tiff_of((65_535 - WIDE).astype(">u2"), WHITE_IS_ZERO), "TIFF file .* layout"),
    "a damaged header": (b"\xff\xd8\xff" + bytes(50), "header is damaged"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_samples_that_cannot_be_read_are_refused_by_name(name: str) -> None:
    data, message = UNREADABLE[name]
    with pytest.raises(InvalidMask, match=f"^mask: .*{message}.*[Ss](end|ave)"):
        settled(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_of_16_bits_is_turned_upright_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turned = Image.fromarray(GREY)
    upright = turned if orientation == 1 else turned.transpose(TURNS[orientation])
    png = png_of(WIDE, 16, png_files.GREY, (b"eXIf", exif.tobytes()[6:]))
    for data in (png, tiff_of(WIDE, tiff_files.BLACK_IS_ZERO, {tiff_files.ORIENTATION: (orientation,)})):
        settled = decode_mask(data, "white", upright.size, 10_000)
        np.testing.assert_array_equal(pixels(settled), snap(np.asarray(upright))[0])
        with pytest.raises(MaskSizeMismatch):
            decode_mask(data, "white", (upright.size[0], upright.size[1] + 1), 10_000)


def test_the_size_is_refused_before_what_the_mask_holds() -> None:
    with pytest.raises(MaskSizeMismatch):
        decode_mask(png_of(np.dstack([GREY, 255 - GREY, GREY]), 8, png_files.RGB), "white", (9, 9), 10_000)
