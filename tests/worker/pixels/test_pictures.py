"""What "the decoded input" is, for every kind of upload the API takes."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from jobs.errors import Undecodable
from jobs.samples import TURNS
from tests import png_files, tiff_files
from tests.factories import encoded
from tests.png_files import chunks_of, png_of, with_chunks, written, zipped
from tests.tiff_files import tiff_of
from tests.worker.photos import GREY, RGB, layers
from worker.pixels import pictures


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_lossless_rgb_is_taken_as_it_is(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = pictures.decode(encoded(Image.fromarray(RGB), kind, **options))
    assert (picture.rgb == RGB).all()
    assert picture.alpha is None and picture.size == (30, 20)


def test_jpeg_is_taken_as_pillow_decodes_it() -> None:
    data = encoded(Image.fromarray(RGB), "JPEG", quality=90)
    with Image.open(io.BytesIO(data)) as image:
        assert (pictures.decode(data).rgb == np.asarray(image)).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_kept_aside(kind: str) -> None:
    rgba = np.dstack([RGB, GREY])
    picture = pictures.decode(encoded(Image.fromarray(rgba), kind))
    assert picture.alpha is not None
    assert (picture.rgb == RGB).all() and (picture.alpha == GREY).all()


def test_grey_becomes_rgb_of_equal_values() -> None:
    picture = pictures.decode(encoded(Image.fromarray(GREY)))
    assert (picture.rgb == GREY[..., None]).all() and picture.alpha is None


def test_grey_with_alpha() -> None:
    picture = pictures.decode(encoded(Image.merge("LA", [Image.fromarray(GREY)] * 2)))
    assert (picture.rgb == GREY[..., None]).all()
    assert picture.alpha is not None and (picture.alpha == GREY).all()


def test_black_and_white() -> None:
    picture = pictures.decode(encoded(Image.fromarray(GREY > 127)))
    assert (picture.rgb == np.where(GREY > 127, 255, 0)[..., None]).all()


def test_palette_with_a_transparent_colour() -> None:
    image = Image.fromarray(GREY // 64, "P")
    image.putpalette([value for index in range(4) for value in (index * 60, 10, 200)])
    picture = pictures.decode(encoded(image, transparency=2))
    assert picture.alpha is not None
    assert (picture.alpha == np.where(GREY // 64 == 2, 0, 255)).all()
    assert (picture.rgb[..., 0] == GREY // 64 * 60).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_the_picture_is_upright(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(RGB), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert (pictures.decode(data).rgb == expected).all()


XMP = b"<tiff:Orientation>6 </tiff:Orientation>"


@pytest.mark.parametrize("tags", [{274: 6}, {700: XMP}, {274: 6, 700: XMP}], ids=["tag", "XMP", "both"])
def test_a_tiff_is_turned_once_whatever_says_so(tags: dict[int, Any]) -> None:
    assert (pictures.decode(encoded(Image.fromarray(RGB), "TIFF", tiffinfo=tags)).rgb == np.rot90(RGB, -1)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bits_and_a_transparent_colour_are_turned_upright_with_the_picture(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    samples = RGB.astype(np.uint16) * 257
    tagged = (b"tRNS", samples[0, 0].astype(">u2").tobytes()), (b"eXIf", exif.tobytes()[6:])
    png = pictures.decode(png_of(samples, 16, png_files.RGB, *tagged))
    tiff = pictures.decode(tiff_of(samples, tiff_files.RGB, {tiff_files.ORIENTATION: (orientation,)}))
    rgba = Image.fromarray(np.dstack([RGB, np.where((RGB[0, 0] == RGB).all(axis=2), 0, 255).astype(np.uint8)]))
    expected = np.asarray(rgba if orientation == 1 else rgba.transpose(TURNS[orientation]))
    assert (layers(png) == expected).all()
    assert (tiff.rgb == expected[..., :3]).all()


@pytest.mark.parametrize("place", ["eXIf", "XMP", "XMP compressed", "raw profile", "XMP of 2 MB"])
@pytest.mark.parametrize("behind", [False, True])
def test_the_orientation_of_a_png_is_found_wherever_a_writer_puts_it(place: str, behind: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    name = b"XML:com.adobe.xmp"
    said = {
        "eXIf": (b"eXIf", exif.tobytes()[6:]),
        "XMP": (b"iTXt", name + b"\0\0\0\0\0" + xmp),
        "XMP compressed": (b"iTXt", name + b"\0\1\0\0\0" + zlib.compress(xmp)),
        "XMP of 2 MB": (b"iTXt", name + b"\0\1\0\0\0" + zlib.compress(b" " * 2_000_000 + xmp)),
        "raw profile": zipped(b"\nexif\n      %d\n" % len(exif.tobytes()) + exif.tobytes().hex().encode() + b"\n",
                              b"Raw profile type exif"),
    }[place]  # fmt: skip
    header, *others = chunks_of(encoded(Image.fromarray(RGB)))
    data = written([header, *others[:-1], said, others[-1]] if behind else [header, said, *others])
    picture = pictures.decode(data)
    assert (picture.rgb == np.rot90(RGB, -1)).all()


METRE = 0.0254


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_density_is_carried_and_turned_with_the_picture(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = pictures.decode(encoded(Image.fromarray(RGB), kind, dpi=(300, 150), exif=exif))
    across, down = (150, 300) if orientation == 6 else (300, 150)
    expected = struct.pack(">IIB", round(across / METRE), round(down / METRE), 1)
    assert dict(picture.chunks)[b"pHYs"] == expected


def test_the_shape_of_pixels_is_carried_where_nothing_says_how_large_they_are() -> None:
    png = with_chunks(encoded(Image.fromarray(RGB)), (b"pHYs", struct.pack(">IIB", 2, 1, 0)))
    assert dict(pictures.decode(png).chunks) == {b"pHYs": struct.pack(">IIB", 2, 1, 0)}
    jpeg = bytearray(encoded(Image.fromarray(RGB), "JPEG"))
    jpeg[13:18] = struct.pack(">BHH", 0, 2, 1)  # JFIF: no unit, twice as many across
    assert dict(pictures.decode(bytes(jpeg)).chunks) == {b"pHYs": struct.pack(">IIB", 2000, 1000, 0)}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_photo_without_statements_has_none_in_its_result(kind: str) -> None:
    assert pictures.decode(encoded(Image.fromarray(RGB), kind)).chunks == ()


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("1", "PNG", ("png", "grey", False, 1)),
        ("L", "JPEG", ("jpeg", "grey", False, 8)),
        ("LA", "TIFF", ("tiff", "grey", True, 8)),
        ("P", "PNG", ("png", "rgb", False, 8)),
        ("RGBA", "WEBP", ("webp", "rgb", True, 8)),
        ("CMYK", "JPEG", ("jpeg", "cmyk", False, 8)),
    ],
)
def test_the_report_says_what_was_read(mode: str, kind: str, expected: tuple[str, str, bool, int]) -> None:
    photo = np.dstack([RGB, GREY]) if "A" in mode else RGB
    data = encoded(Image.fromarray(photo).convert(mode), kind)
    report = pictures.decode(data).report
    assert (report.format, report.mode, report.alpha, report.bits) == expected
    assert report.input_bytes == len(data)
    assert pictures.decode(data).grey == (report.mode == "grey")


def test_a_colour_photo_of_equal_channels_is_not_taken_for_grey() -> None:
    assert not pictures.decode(encoded(Image.fromarray(GREY).convert("RGB"))).grey


def test_what_is_painted_for_a_grey_photo_becomes_its_luma() -> None:
    grey, colour = (pictures.decode(encoded(Image.fromarray(pixels))) for pixels in (GREY, RGB))
    assert (colour.in_its_mode(RGB) == RGB).all()
    luma = np.asarray(Image.fromarray(RGB).convert("L")).astype(int)
    painted = grey.in_its_mode(RGB)
    assert np.abs(painted - luma[..., None]).max() <= 1
    equal = GREY[..., None].repeat(3, axis=2)
    assert (grey.in_its_mode(equal) == equal).all()


def test_texts_of_any_size_are_no_part_of_a_picture_or_a_mask() -> None:
    texts = [zipped(bytes(3_000_000)), (b"tEXt", b"prompt\0" + b"x" * 70_000_000), (b"iTXt", b"odd")]
    data = with_chunks(encoded(Image.fromarray(GREY)), *texts)
    assert (pictures.decode(data).rgb == GREY[..., None]).all()
    assert (pictures.decode_mask(data) == GREY).all()


@pytest.mark.parametrize("data", [b"", b"no picture", encoded(Image.fromarray(RGB))[:200]])
def test_what_cannot_be_decoded_says_so(data: bytes) -> None:
    with pytest.raises(Undecodable):
        pictures.decode(data)
