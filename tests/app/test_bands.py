"""A mask read band by band is what reading it whole would give, in every layout, mode, scale and orientation."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from app.bands import BAND_PX
from app.masks import decode_mask
from app.uploads import check_image
from jobs.errors import DoubtfulMask, InvalidMask
from jobs.mask_values import snap
from jobs.schema import MaskMode, MaskScale
from tests import png_files, tiff_files
from tests.app.settling import pixels
from tests.factories import encoded, noise
from tests.png_files import png_of
from tests.tiff_files import tiff_of

WIDTH, HEIGHT = 517, 391
assert BAND_PX < WIDTH * HEIGHT / 2

Values = NDArray[np.uint8]
Layout = Callable[[Values, Image.Exif], bytes]

GREY = noise((HEIGHT, WIDTH), seed=5)
GREY[0, 0] = 255


def wide(values: Values) -> NDArray[np.uint16]:
    return values.astype(np.uint16) * 257


def image_of(*channels: Values) -> Image.Image:
    return Image.fromarray(np.dstack(channels) if len(channels) > 1 else channels[0])


def saved(file_format: str, mode: str, **options: Any) -> Layout:
    def save(values: Values, exif: Image.Exif) -> bytes:
        opaque = np.full_like(values, 255)
        images = {
            "L": image_of(values),
            "LA": Image.merge("LA", [image_of(values), image_of(opaque)]),
            "P": image_of(values).convert("P", palette=Image.Palette.ADAPTIVE, colors=256),
            "RGB": image_of(values, values, values),
            "RGBA": image_of(values, values, values, opaque),
            "CMYK": image_of(values, values, values).convert("CMYK"),
            "F": Image.fromarray(values / np.float32(255)),
        }
        turned = {"tiffinfo": {274: exif[ExifTags.Base.Orientation]}} if file_format == "TIFF" else {"exif": exif}
        return encoded(images[mode], file_format, **turned, **options)

    return save


def png_16(kind: int, channels: int, alpha: bool) -> Layout:
    def save(values: Values, exif: Image.Exif) -> bytes:
        layers = [wide(values)] * channels + [np.full_like(values, 65_535, np.uint16)] * alpha
        return png_of(np.dstack(layers), 16, kind, (b"eXIf", exif.tobytes()[6:]))

    return save


def tiff_16(order: str, channels: int) -> Layout:
    def save(values: Values, exif: Image.Exif) -> bytes:
        samples = np.dstack([wide(values)] * channels).squeeze().astype(order)
        kind = tiff_files.RGB if channels == 3 else tiff_files.BLACK_IS_ZERO
        return tiff_of(samples, kind, {tiff_files.ORIENTATION: (exif[ExifTags.Base.Orientation],)})

    return save


LAYOUTS: dict[str, Layout] = {
    **{f"PNG {mode}": saved("PNG", mode) for mode in ("L", "LA", "P", "RGB", "RGBA")},
    **{f"TIFF {mode}": saved("TIFF", mode) for mode in ("L", "LA", "P", "RGB", "RGBA", "CMYK", "F")},
    **{f"TIFF {mode}, LZW": saved("TIFF", mode, compression="tiff_lzw") for mode in ("L", "RGB", "F")},
    **{f"WEBP {mode}": saved("WEBP", mode, lossless=True) for mode in ("RGB", "RGBA")},
    "PNG L, 16 bits": png_16(png_files.GREY, 1, False),
    "PNG LA, 16 bits": png_16(png_files.GREY_ALPHA, 1, True),
    "PNG RGB, 16 bits": png_16(png_files.RGB, 3, False),
    "PNG RGBA, 16 bits": png_16(png_files.RGB_ALPHA, 3, True),
    **{
        f"TIFF {channels} x 16 bits, {order}": tiff_16(order, channels)
        for channels in (1, 3)
        for order in ("<u2", ">u2")
    },
}

UPRIGHT: dict[int, Callable[[Values], Values]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.T,
    6: lambda stored: stored.T[:, ::-1],
    7: lambda stored: stored.T[::-1, ::-1],
    8: lambda stored: stored.T[::-1],
}
"""Where row 0 and column 0 of the file are (Exif 3.0, 4.6.5.1.6)."""


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def settled(data: bytes, mode: MaskMode, scale: MaskScale = "full", size: tuple[int, int] = (WIDTH, HEIGHT)) -> Values:
    return pixels(decode_mask(data, mode, size, 10**6, scale))


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_holds_the_same_values_in_every_orientation(name: str) -> None:
    for orientation, upright in UPRIGHT.items():
        expected = np.ascontiguousarray(upright(GREY))
        data = LAYOUTS[name](GREY, turned(orientation))
        size = expected.shape[1], expected.shape[0]
        np.testing.assert_array_equal(settled(data, "white", size=size), snap(expected)[0])
        if name not in ("TIFF F", "TIFF F, LZW"):  # which are no photo
            assert check_image(data, 10**6).size == size


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_read_by_every_mode_and_scale(name: str) -> None:
    data = LAYOUTS[name](GREY, turned(1))
    np.testing.assert_array_equal(settled(data, "black"), snap(255 - GREY)[0])
    binary = np.where(GREY > 0, np.uint8(255), np.uint8(0))
    np.testing.assert_array_equal(settled(data, "white", "binary"), binary)
    np.testing.assert_array_equal(settled(data, "black", "binary"), 255 - binary)


SEE_THROUGH: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: encoded(image_of(GREY, GREY.T.reshape(GREY.shape), 255 - GREY, GREY)),
    "WEBP": lambda: encoded(image_of(GREY, GREY, 255 - GREY, GREY), "WEBP", lossless=True, exact=True),
    "TIFF": lambda: encoded(image_of(GREY, GREY, 255 - GREY, GREY), "TIFF"),
    "PNG, 16 bits": lambda: png_of(np.dstack([wide(GREY)] * 4), 16, png_files.RGB_ALPHA),
    "PNG, palette": lambda: encoded(Image.fromarray(GREY).convert("P"), transparency=bytes(range(256))),
}


@pytest.mark.parametrize("name", SEE_THROUGH)
def test_alpha_is_read_from_every_band(name: str) -> None:
    data = SEE_THROUGH[name]()
    np.testing.assert_array_equal(settled(data, "alpha_inverted"), snap(GREY)[0])
    np.testing.assert_array_equal(settled(data, "alpha"), snap(255 - GREY)[0])


@pytest.mark.parametrize("row", [0, HEIGHT // 2, HEIGHT - 1])
def test_what_makes_a_mask_unfit_is_found_in_any_band(row: int) -> None:
    colour, alpha = np.dstack([GREY] * 3), np.full_like(GREY, 255)
    colour[row, -1] = [200, 30, 30]
    with pytest.raises(InvalidMask, match="it has colours"):
        settled(encoded(Image.fromarray(colour)), "white")
    alpha[row, -1] = 254
    with pytest.raises(InvalidMask, match="parts of it are transparent"):
        settled(encoded(image_of(*[GREY] * 3, alpha)), "white")
    values = GREY / np.float32(255)
    values[row, -1] = np.nan
    with pytest.raises(InvalidMask, match="leave 0 to 1"):
        settled(encoded(Image.fromarray(values), "TIFF"), "white")


def test_transparency_is_named_before_colours_of_an_earlier_band() -> None:
    layers = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])
    layers[0, 0, :3] = [200, 30, 30]
    layers[-1, -1, 3] = 0
    with pytest.raises(InvalidMask, match="parts of it are transparent"):
        settled(encoded(Image.fromarray(layers)), "white")


@pytest.mark.parametrize("row", [0, HEIGHT - 1])
def test_the_largest_value_is_that_of_all_bands(row: int) -> None:
    faint = GREY // 4
    faint[row, 0] = 100
    with pytest.raises(DoubtfulMask, match="its largest grey value is 100 of 255"):
        settled(encoded(Image.fromarray(faint)), "white")
    faint[row, 0] = 200
    assert settled(encoded(Image.fromarray(faint)), "white").max() == 200


def test_a_transparent_colour_is_found_in_every_band() -> None:
    data = png_of(np.dstack([GREY] * 3), 8, png_files.RGB, (b"tRNS", struct.pack(">3H", 255, 255, 255)))
    np.testing.assert_array_equal(settled(data, "alpha"), np.where(GREY == 255, 255, 0))


def test_a_mask_of_floats_without_alpha_is_refused_by_what_it_lacks() -> None:
    with pytest.raises(InvalidMask, match="needs an alpha channel"):
        settled(encoded(Image.fromarray(GREY / np.float32(255)), "TIFF"), "alpha")


def test_a_tiff_that_xmp_turns_is_turned_and_measured_upright() -> None:
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    data = encoded(Image.fromarray(GREY), "TIFF", tiffinfo={700: xmp})
    assert check_image(data, 10**6).size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(settled(data, "white", size=(HEIGHT, WIDTH)), snap(UPRIGHT[6](GREY))[0])


@pytest.mark.parametrize("options", [{"quality": 30}, {"quality": 95}, {"lossless": True}])
@pytest.mark.parametrize("announced", [True, False])
def test_the_pixels_of_a_webp_are_those_that_pillow_finds(options: dict[str, Any], announced: bool) -> None:
    data = bytearray(encoded(image_of(GREY, GREY, GREY, np.roll(GREY, 9)), "WEBP", exif=turned(1), **options))
    assert data[12:16] == b"VP8X" and data[20] & 0x10
    if not announced:
        data[20] &= ~0x10  # the header then denies the alpha channel
    with Image.open(io.BytesIO(data)) as image:
        alpha = np.asarray(image)[..., 3]
    lossy = "lossless" not in options
    np.testing.assert_array_equal(settled(bytes(data), "alpha_inverted"), snap(alpha, lossy)[0])
    grey = encoded(image_of(GREY, GREY, GREY), "WEBP", **options)
    with Image.open(io.BytesIO(grey)) as image:
        np.testing.assert_array_equal(settled(grey, "white"), snap(np.asarray(image)[..., 1], lossy)[0])
