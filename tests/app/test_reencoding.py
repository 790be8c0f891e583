"""A result that a dialect makes anew keeps its mark and what it has of its photo's metadata."""

import io

import pytest
from PIL import ExifTags, Image

from app.dialects.a1111.infotext import with_infotext
from app.reencoding import encoded_anew
from tests.factories import noise, png
from tests.png_files import chunks_of, with_chunks
from worker.pixels import xmp
from worker.pixels.png import PngWriter

EXIF = Image.Exif()
EXIF[ExifTags.Base.Make] = "maker"
PIXELS = noise((30, 40, 3))
PACKET = xmp.packet(b"", "pocket")


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_result_that_is_stretched_keeps_its_mark_and_its_photos_exif(kind: str) -> None:
    chunk = EXIF.tobytes().removeprefix(b"Exif\0\0")
    result = PngWriter(PIXELS, [(b"eXIf", chunk)]).finish({"infill": "{}"}, PACKET)
    with Image.open(io.BytesIO(result)) as image:
        anew = encoded_anew(image.resize((20, 15)), image, kind)
    with Image.open(io.BytesIO(anew)) as image:
        assert image.size == (20, 15) and image.getexif()[ExifTags.Base.Make] == "maker"
        assert image.info["xmp"] == PACKET


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_result_without_either_gets_none(kind: str) -> None:
    with Image.open(io.BytesIO(png(PIXELS))) as image:
        anew = encoded_anew(image.resize((20, 15)), image, kind)
    with Image.open(io.BytesIO(anew)) as image:
        assert not {"xmp", "exif"} & image.info.keys()


def test_no_manifest_is_left_in_a_file_that_was_changed_after_it_was_signed() -> None:
    signed = with_chunks(png(PIXELS), (b"caBX", b"manifest"))
    assert with_infotext(signed, "a cat") == with_infotext(png(PIXELS), "a cat")
    with Image.open(io.BytesIO(signed)) as image:
        anew = encoded_anew(image.resize((20, 15)), image, "PNG")
    assert b"caBX" not in [kind for kind, _ in chunks_of(anew)]
