"""AVIF and HEIC uploads: read in every kind that is written, upright, within limits; refused by name otherwise."""

import io
import struct
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFile

from app.masks import decode_mask
from app.uploads import check_image
from jobs.errors import InvalidImage, InvalidMask, RequestError
from jobs.formats import HAS_HEIC
from jobs.heif_boxes import MAX_ITEMS
from tests.app.peaks import avif_of
from tests.app.pictures import SIZE, box_mask, photo, with_orientation
from tests.app.processes import ROOT
from tests.app.settling import pixels
from tests.factories import encoded

LIMIT = 1_000_000
FORMATS = ["AVIF", pytest.param("HEIF", marks=pytest.mark.skipif(not HAS_HEIC, reason="pillow-heif is not installed"))]


def heic(image: Image.Image, orientation: int = 1) -> bytes:
    """Turned by the file's own boxes, as phones do it: there EXIF says nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = image.copy()
    turned.info["exif"] = exif.tobytes()
    return encoded(turned, "HEIF")


def turned(file_format: str, image: Image.Image, orientation: int) -> bytes:
    return heic(image, orientation) if file_format == "HEIF" else with_orientation(image, orientation, "AVIF")


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photo_and_mask_are_upright_by_the_files_own_turns(file_format: str, orientation: int) -> None:
    upright = SIZE if orientation < 5 else SIZE[::-1]
    assert check_image(turned(file_format, photo(), orientation), LIMIT).size == upright
    mask = decode_mask(turned(file_format, box_mask(), orientation), "white", upright, LIMIT)
    png = with_orientation(box_mask(), orientation, "PNG")
    np.testing.assert_array_equal(pixels(mask), pixels(decode_mask(png, "white", upright, LIMIT)))


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_masks_transparency_is_read(file_format: str) -> None:
    see_through = Image.merge("RGBA", [*photo().split(), box_mask()])
    mask = decode_mask(encoded(see_through, file_format), "alpha_inverted", SIZE, LIMIT)
    np.testing.assert_array_equal(pixels(mask), np.asarray(box_mask()))
    with pytest.raises(InvalidMask, match="needs an alpha channel"):
        decode_mask(encoded(photo(), file_format), "alpha", SIZE, LIMIT)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_a_mask_of_more_bits_is_read(bits: int) -> None:
    values = np.asarray(box_mask(), np.uint32) * (2**bits - 1) // 255
    data = avif_of(np.dstack([values] * 3).astype(np.uint8 if bits == 8 else np.uint16), bits)
    np.testing.assert_array_equal(pixels(decode_mask(data, "white", SIZE, LIMIT)), np.asarray(box_mask()))


def test_a_sequence_is_refused() -> None:
    data = encoded(photo(), "AVIF", save_all=True, append_images=[photo()])
    with pytest.raises(InvalidImage, match="holds 2 pictures"):
        check_image(data, LIMIT)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_that_is_cut_short_is_refused(file_format: str) -> None:
    whole = encoded(photo(), file_format)
    for end in (20, 100, 300, len(whole) // 2, len(whole) - 40):
        with pytest.raises(InvalidImage):
            check_image(whole[:end], LIMIT)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


HEAD = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")
ISPE = box(b"ispe", struct.pack(">III", 0, 20_000, 20_000))
COSTLY: dict[str, tuple[Callable[[], bytes], str]] = {
    "boxes": (lambda: HEAD + box(b"free", b"") * 100_000, "more than 4000 boxes"),
    "properties": (
        lambda: HEAD + box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", box(b"free", b"") * 100_000))),
        "more than 4000 boxes",
    ),
    "nested boxes": (lambda: HEAD + box(b"meta", bytes(4) + box(b"meta", bytes(4) + ISPE)), "20000 x 20000"),
    "items": (
        lambda: HEAD + box(b"meta", bytes(4) + box(b"iloc", struct.pack(">IHI", 2 << 24, 0, MAX_ITEMS + 1))),
        "has 2001 pictures or parts",
    ),
    "listed items": (
        lambda: HEAD + box(b"meta", bytes(4) + box(b"iinf", struct.pack(">II", 1 << 24, 10**6))),
        "has 1000000 pictures or parts",
    ),
    "parts": (
        lambda: HEAD + box(b"meta", bytes(4) + box(b"iref", bytes(4) + box(b"dimg", struct.pack(">HH", 1, 60_000)))),
        "a picture of more than 2000 parts",
    ),
    "a tile": (lambda: HEAD + box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", ISPE))), "20000 x 20000 pixels"),
    "long lengths": (
        lambda: HEAD + struct.pack(">I4sQ", 1, b"meta", 28 + len(ISPE)) + bytes(4) + box(b"iprp", b"") + ISPE,
        "20000 x 20000 pixels",
    ),
}


@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_structure_is_refused_before_a_decoder_sees_it(name: str) -> None:
    make, sentence = COSTLY[name]
    with pytest.raises(InvalidImage, match=f"{sentence}.*which no picture needs"):
        check_image(make(), LIMIT)


def test_boxes_that_lie_about_their_lengths_end() -> None:
    rng = np.random.default_rng(5)
    whole = encoded(photo((16, 12)), "AVIF")
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, 300, 4):
            data[at] = rng.integers(256)
        try:
            check_image(bytes(data), LIMIT)
        except RequestError as error:
            assert str(error).startswith("image: ")


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    data = encoded(Image.new("RGB", (300, 300)), "AVIF", speed=10)
    with pytest.raises(RequestError, match="300 x 300 pixels are more than the 80000"):
        check_image(data, 80_000)


@pytest.mark.skipif(not HAS_HEIC, reason="pillow-heif is not installed")
def test_heic_without_its_package_is_refused_by_name_with_the_remedy() -> None:
    program = """
import sys
sys.modules["pillow_heif"] = None  # as if it were not installed
from app.uploads import allowed_formats, check_image
from jobs.errors import InvalidImage
try:
    check_image(sys.stdin.buffer.read(), 10**6)
except InvalidImage as error:
    print(error)
"""
    data = encoded(photo(), "HEIF")
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, input=data, capture_output=True, check=True)
    assert ended.stdout.decode().strip() == (
        "image: this is a HEIC file. Send a PNG, JPEG, WebP, TIFF or AVIF file. "
        "HEIC is read where the service is installed with its extra, infill[heic]."
    )


def test_pillow_reads_a_file_as_this_service_does() -> None:
    with Image.open(io.BytesIO(encoded(photo(mode="L"), "AVIF"))) as image:
        assert isinstance(image, ImageFile.ImageFile) and image.mode == "L"
