"""A file of a kind that is not taken is refused by its name."""

import pytest

from app.masks import decode_mask
from app.signatures import known_as
from app.uploads import allowed_formats, check_image
from jobs.errors import InvalidImage, InvalidMask
from jobs.formats import HAS_HEIC, HEIC_REMEDY
from tests.app.formats import LIMIT, PICTURES
from tests.app.pictures import SIZE, photo
from tests.factories import encoded

PILLOWS = {"GIF": "a GIF file", "BMP": "a BMP file", "ICO": "an icon (ICO)", "PPM": "a PNM file", "DDS": "a DDS file"}
PILLOWS |= {"JPEG2000": "a JPEG 2000 file", "PDF": "a PDF file", "EPS": "a PostScript file"}
DAMAGED = "file that is damaged, or of a kind that is not supported"
SEND = f"Send a {allowed_formats()} file."

OTHERS = {
    b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif": f"an AVIF {DAMAGED}",
    b"\0\0\0\x18ftypavif\0\0\0\0mif1avif": f"an AVIF {DAMAGED}",
    b"\0\0\0\x18ftypcrx \0\0\0\x01": "a camera's raw file (CR3)",
    b"\0\0\0\x18ftypisom\0\0\0\0": "a video",
    b"\xff\x0a\x7f\x2b": "a JPEG XL file",
    b"\0\0\0\x0cJXL \r\n\x87\n": "a JPEG XL file",
    b"8BPS\0\1": "a Photoshop file",
    b"gimp xcf v011\0": "a GIMP file",
    b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg xmlns="http://www.w3.org/2000/svg">': "an SVG file",
    b"\xef\xbb\xbf <svg/>": "an SVG file",
    b"<!DOCTYPE html>\n<html><body><svg/>": "an HTML page",
    b"IIRO\x08\0": "a camera's raw file (ORF or RW2)",
    b"FUJIFILMCCD-RAW 0201": "a camera's raw file (RAF)",
    b"v/1\x01\x02\0\0\0": "an OpenEXR file",
    b"#?RADIANCE\n": "a Radiance HDR file",
    b"PK\x03\x04\x14\0": "a ZIP archive",
    b"data:image/png;base64,iVBORw0KGgo": "text in base64",
    b"iVBORw0KGgoAAAANSUhEUgAA": "text in base64",
}


@pytest.mark.parametrize("kind", PILLOWS)
def test_a_picture_in_another_format_is_named(kind: str) -> None:
    data, sentence = encoded(photo(), kind), f"this is {PILLOWS[kind]}. {SEND}"
    with pytest.raises(InvalidImage) as refused:
        check_image(data, LIMIT)
    assert str(refused.value) == f"image: {sentence}"
    with pytest.raises(InvalidMask) as refused_mask:
        decode_mask(data, "white", SIZE, LIMIT)
    assert str(refused_mask.value) == f"mask: {sentence}"


@pytest.mark.parametrize("begin", OTHERS)
def test_what_pillow_does_not_write_is_named_by_its_first_bytes(begin: bytes) -> None:
    with pytest.raises(InvalidImage) as refused:
        check_image(begin + bytes(100), LIMIT)
    assert str(refused.value) == f"image: this is {OTHERS[begin]}. {SEND}"


@pytest.mark.parametrize("begin", [b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"])
def test_a_heic_file_is_named_whether_it_is_read_or_not(begin: bytes) -> None:
    named = f"a HEIC {DAMAGED}. {SEND}" if HAS_HEIC else f"a HEIC file. {SEND} {HEIC_REMEDY}."
    with pytest.raises(InvalidImage) as refused:
        check_image(begin + bytes(100), LIMIT)
    assert str(refused.value) == f"image: this is {named}"


@pytest.mark.parametrize("name", PICTURES)
def test_no_picture_that_is_taken_is_known_as_something_else(name: str) -> None:
    assert known_as(PICTURES[name]) is None


@pytest.mark.parametrize("data", [b"", b"hello", b"\0" * 2000, b"\xff\xd8\xff\xe0", b"<p>", b"<?xml?><plist>"])
def test_what_nothing_is_known_of_is_not_guessed(data: bytes) -> None:
    assert known_as(data) is None
