"""Samples of any number of bits become 8 by one rule, and a transparent value is found in the file's own bits."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from tests import png_files, tiff_files
from tests.png_files import png_of
from tests.tiff_files import tiff_of
from tests.worker.photos import GREY, RGB, layers
from worker.pixels import pictures


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


EVERY = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
ROUNDED = np.rint(EVERY / 257).astype(np.uint8)
SHADES = np.dstack([EVERY, EVERY[::-1], EVERY.T, EVERY[:, ::-1]])
SHADES_ROUNDED = np.rint(SHADES / 257).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_16_bit_value_of_a_png_is_rounded_as_real_numbers_are(channels: int) -> None:
    kinds = {1: png_files.GREY, 2: png_files.GREY_ALPHA, 3: png_files.RGB, 4: png_files.RGB_ALPHA}
    picture = pictures.decode(png_of(SHADES[..., :channels], 16, kinds[channels]))
    assert (picture.channels_of(layers(picture)) == SHADES_ROUNDED[..., :channels].squeeze()).all()
    assert picture.approximate == ["depth_reduced"] and picture.report.bits == 16


@pytest.mark.parametrize("order", ["<u2", ">u2"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_16_bit_value_of_a_tiff_is_rounded_as_real_numbers_are(order: str, channels: int) -> None:
    extra = {tiff_files.EXTRA_SAMPLES: (2,)} if channels == 4 else {}
    kind = tiff_files.BLACK_IS_ZERO if channels == 1 else tiff_files.RGB
    samples = SHADES[..., :channels].squeeze().astype(order)
    picture = pictures.decode(tiff_of(samples, kind, extra))
    assert (picture.channels_of(layers(picture)) == SHADES_ROUNDED[..., :channels].squeeze()).all()


def test_compressed_16_bit_tiffs_are_rounded_too() -> None:
    values = np.ascontiguousarray(SHADES[..., 2::-1])
    data = cv2.imencode(".tiff", values, [cv2.IMWRITE_TIFF_COMPRESSION, 8])[1].tobytes()
    assert (pictures.decode(data).rgb == SHADES_ROUNDED[..., :3]).all()


def test_16_bit_cmyk_is_rounded() -> None:
    picture = pictures.decode(tiff_of(SHADES, tiff_files.CMYK))
    expected = Image.frombytes("CMYK", (256, 256), SHADES_ROUNDED.tobytes()).convert("RGB")
    assert (picture.rgb == np.asarray(expected)).all()
    assert picture.report.mode == "cmyk" and picture.approximate == ["depth_reduced"]


def test_16_bit_colours_multiplied_by_their_alpha_are_divided_before_they_are_rounded() -> None:
    alpha = np.maximum(EVERY, 1000)
    colour = EVERY[::-1]
    multiplied = np.rint(colour[..., None].astype(float) * alpha[..., None] / 65_535).repeat(3, axis=2)
    samples = np.dstack([multiplied.astype(np.uint16), alpha])
    picture = pictures.decode(tiff_of(samples, tiff_files.RGB, {tiff_files.EXTRA_SAMPLES: (1,)}))
    assert picture.alpha is not None and (picture.alpha == np.rint(alpha / 257)).all()
    assert np.abs(picture.rgb[..., 0] - colour / 257).max() <= 0.5 + 65_535 / 1000 / 2 / 257


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_white_is_zero_is_not_a_negative(bits: int) -> None:
    samples = (255 - GREY) if bits == 8 else 65_535 - GREY.astype(np.uint16) * 257
    picture = pictures.decode(tiff_of(samples, tiff_files.WHITE_IS_ZERO))
    assert (picture.rgb == GREY[..., None]).all() and picture.report.bits == bits


def test_white_is_white_in_a_tiff_of_12_bits() -> None:
    packed = np.array([[0xFF, 0xF0, 0x00, 0x80, 0x0F, 0xFF]], np.uint8)  # 4095, 0, 2048, 4095
    data = tiff_of(packed, tiff_files.BLACK_IS_ZERO, {256: (4,), tiff_files.BITS: (12,)})
    picture = pictures.decode(data)
    assert picture.rgb[0, :, 0].tolist() == [255, 0, 128, 255]
    assert picture.report.bits == 12 and picture.approximate == ["depth_reduced"]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_value_of_a_grey_png_is_compared_in_its_own_bits(bits: int) -> None:
    samples = (EVERY >> (16 - bits)).astype(np.uint16)
    unused = 0 if bits == 16 else 0xFF << bits & 0xFFFF
    value = int(samples[100, 7])
    picture = pictures.decode(png_of(samples, bits, png_files.GREY, (b"tRNS", struct.pack(">H", value | unused))))
    assert picture.alpha is not None and picture.grey
    assert (picture.alpha == np.where(samples == value, 0, 255)).all()
    assert (picture.rgb[..., 0] == np.rint(samples / (2**bits - 1) * 255)).all()
    assert picture.report.alpha


@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_colour_of_an_rgb_png_is_compared_in_its_own_bits(bits: int) -> None:
    samples = SHADES[..., :3] if bits == 16 else (SHADES[..., :3] >> 8)
    near = samples.copy()
    near[0, 0] = near[0, 1] ^ [0, 0, 1]  # one level beside
    value = tuple(int(level) for level in near[0, 1])
    picture = pictures.decode(png_of(near, bits, png_files.RGB, (b"tRNS", struct.pack(">3H", *value))))
    assert picture.alpha is not None and not picture.grey
    assert (picture.alpha == np.where((near == value).all(axis=2), 0, 255)).all()
    assert picture.alpha[0, 0] == 255 and picture.alpha[0, 1] == 0


def test_grey_multiplied_by_its_alpha_is_read() -> None:
    samples = np.dstack([GREY // 2, np.full_like(GREY, 128)])
    picture = pictures.decode(tiff_of(samples, tiff_files.BLACK_IS_ZERO, {tiff_files.EXTRA_SAMPLES: (1,)}))
    assert picture.alpha is not None and (picture.alpha == 128).all() and picture.grey
    assert np.abs(picture.rgb[..., 0].astype(int) - GREY).max() <= 2
