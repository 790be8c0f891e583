"""Every format and pixel layout that people have is taken; a file that is not whole is not."""

import io
import zlib

import httpx
import numpy as np
import pytest
from PIL import Image

from app.settings import ApiSettings
from app.uploads import check_image, opened, read_file
from jobs.errors import InvalidImage, InvalidMask, TooLarge
from jobs.png_chunks import MAX_PROFILE_BYTES
from tests import tiff_files
from tests.app.formats import LIMIT, PICTURES
from tests.app.pictures import SIZE, box_mask, photo, with_orientation
from tests.app.serving import serve
from tests.app.submissions import files
from tests.factories import encoded
from tests.icc_profiles import rgb_profile
from tests.png_files import chunks_of, iccp, written, zipped
from tests.tiff_files import tiff_of


@pytest.mark.parametrize("name", PICTURES)
def test_a_readable_picture_has_its_size(name: str) -> None:
    assert check_image(PICTURES[name], LIMIT).size == SIZE


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["jpeg", "webp", "tiff 16 bit", "png palette transparent", "jpeg cmyk"])
async def test_a_readable_picture_is_accepted_over_http(client: httpx.AsyncClient, name: str) -> None:
    response = await client.post("/v1/inpaint", files=files(PICTURES[name]))
    assert response.status_code == 202, response.text


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_size_is_that_of_the_upright_picture(orientation: int, file_format: str) -> None:
    width, height = SIZE
    expected = (height, width) if orientation >= 5 else (width, height)
    assert check_image(with_orientation(photo(), orientation, file_format), LIMIT).size == expected


@pytest.mark.parametrize("name", [name for name in PICTURES if name != "jpeg with a preview"])
def test_a_truncated_picture_is_refused(name: str) -> None:
    data = PICTURES[name]
    with pytest.raises(InvalidImage, match=r"damaged|not a picture"):
        check_image(data[: len(data) * 2 // 3], LIMIT)


def test_a_jpeg_whose_preview_is_whole_but_whose_picture_is_not_is_refused() -> None:
    preview = encoded(photo((16, 12)), "JPEG")
    exif = b"Exif\0\0" + preview
    whole = encoded(photo(), "JPEG")
    with_preview = whole[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + whole[2:]
    assert check_image(with_preview, LIMIT).size == SIZE
    with pytest.raises(InvalidImage, match="damaged or cut short"):
        check_image(with_preview[:-2], LIMIT)


def test_a_png_with_one_changed_byte_is_refused() -> None:
    data = bytearray(PICTURES["png rgb"])
    data[len(data) // 2] ^= 1
    with pytest.raises(InvalidImage, match="damaged or cut short"):
        check_image(bytes(data), LIMIT)


def test_a_jpeg_whose_markers_are_padded_is_whole() -> None:
    """ITU T.81, B.1.1.2: any marker may be preceded by fill bytes."""
    whole = PICTURES["jpeg"]
    padded = whole.replace(b"\xff\xda", b"\xff\xff\xff\xda", 1)
    assert check_image(padded, LIMIT).size == SIZE
    with pytest.raises(InvalidImage, match="damaged or cut short"):
        check_image(padded[:-2], LIMIT)


def test_an_orientation_behind_the_pixels_of_a_png_counts() -> None:
    turned = with_orientation(photo(), 6, "PNG")
    at = turned.index(b"eXIf") - 4
    length = 12 + int.from_bytes(turned[at : at + 4], "big")
    moved = turned[:at] + turned[at + length : -12] + turned[at : at + length] + turned[-12:]
    assert check_image(moved, LIMIT).size == SIZE[::-1]


@pytest.mark.parametrize("file_format", ["GIF", "BMP", "ICO", "PPM"])
def test_other_formats_are_refused_with_the_list_of_those_allowed(file_format: str) -> None:
    with pytest.raises(InvalidImage, match="Send a PNG, JPEG, WebP, TIFF"):
        check_image(encoded(photo(), file_format), LIMIT)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_several_pictures_in_one_file_are_refused(file_format: str) -> None:
    others = [photo().rotate(90), photo().rotate(180)]
    for count in (1, 2):
        data = encoded(photo(), file_format, save_all=True, append_images=others[:count])
        with pytest.raises(InvalidImage, match=f"holds {count + 1} pictures"):
            check_image(data, LIMIT)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_too_many_pixels_are_refused_before_they_are_decoded(file_format: str) -> None:
    data = encoded(photo(), file_format)
    if file_format != "WEBP":  # its header is only read from a whole file
        data = data[: len(data) // 2]
    with pytest.raises(TooLarge, match="64 x 48 pixels are more than the 3071"):
        check_image(data, 64 * 48 - 1)


def test_exactly_as_many_pixels_as_allowed_are_taken() -> None:
    assert check_image(encoded(photo()), 64 * 48).size == SIZE


def test_a_bomb_far_beyond_pillows_own_limit_is_too_large() -> None:
    header = bytearray(encoded(Image.new("1", (8, 8))))
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    with pytest.raises(TooLarge):
        check_image(bytes(header), LIMIT)


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_pixels_whose_white_is_unknown_are_refused(mode: str) -> None:
    image = Image.new(mode, SIZE)
    with pytest.raises(InvalidImage, match=f"colour mode {mode} is not supported"):
        check_image(encoded(image, "TIFF"), LIMIT)


@pytest.mark.parametrize("value", [1_000_000, 100])
def test_32_bit_pixels_are_refused_whatever_their_values(value: int) -> None:
    values = np.full((48, 64), value, np.int32)
    with pytest.raises(InvalidImage, match="32 bits a pixel"):
        check_image(encoded(Image.fromarray(values), "TIFF"), LIMIT)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_signed_values_are_refused(kind: type[np.generic]) -> None:
    data = tiff_of(np.ones((48, 64), kind), tiff_files.BLACK_IS_ZERO, {tiff_files.SAMPLE_FORMAT: (2,)})
    with pytest.raises(InvalidImage, match="signed values"):
        check_image(data, LIMIT)


@pytest.mark.parametrize("photometric", [tiff_files.RGB, tiff_files.CMYK])
def test_16_bits_in_separate_planes_are_refused_and_8_are_taken(photometric: int) -> None:
    channels = 3 if photometric == tiff_files.RGB else 4
    for kind in (np.uint8, np.uint16):
        data = tiff_of(np.ones((48, 64, channels), kind), photometric, {tiff_files.PLANES: (2,)})
        if kind is np.uint8:
            assert check_image(data, LIMIT).size == SIZE
        else:
            with pytest.raises(InvalidImage, match="separate planes"):
                check_image(data, LIMIT)


@pytest.mark.parametrize(
    "said",
    [
        zipped(bytes(3_000_000)),
        (b"tEXt", b"prompt\0" + b"x" * 3_000_000),
        (b"tEXt", b"prompt\0" + b"x" * 70_000_000),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        iccp(rgb_profile(1.8, 2_000_000)),
        (b"gAMA", b""),
    ],
    ids=["zTXt", "tEXt", "tEXt of 70 MB", "XMP", "profile", "empty gAMA"],
)
@pytest.mark.parametrize("behind", [False, True])
def test_a_png_with_any_texts_and_profile_is_taken(said: tuple[bytes, bytes], behind: bool) -> None:
    header, *others, end = chunks_of(PICTURES["png rgb"])
    data = written([header, *others, said, end] if behind else [header, said, *others, end])
    assert check_image(data, LIMIT).size == SIZE


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])  # a JPEG can hold one of 16 MiB at most
def test_a_profile_beyond_what_a_jpeg_can_hold_is_refused_by_name(file_format: str) -> None:
    longest = rgb_profile(1.8).ljust(MAX_PROFILE_BYTES, b"\0")
    assert check_image(encoded(photo(), file_format, icc_profile=longest), LIMIT).size == SIZE
    with pytest.raises(TooLarge, match=f"image: its colour profile is larger than the {MAX_PROFILE_BYTES} bytes"):
        check_image(encoded(photo(), file_format, icc_profile=longest + b"\0"), LIMIT)


def test_too_many_chunks_are_refused_by_number() -> None:
    header, *others = chunks_of(PICTURES["png rgb"])
    with pytest.raises(InvalidImage, match="image: the file has more than 20000 PNG chunks"):
        check_image(written([header, *[(b"teSt", b"")] * 20_000, *others]), LIMIT)


def test_a_mask_with_a_wrong_checksum_is_refused() -> None:
    data = bytearray(encoded(box_mask()))
    data[-20] ^= 1
    with pytest.raises(InvalidMask, match="mask: the file is damaged or cut short"), opened(bytes(data), LIMIT, "mask"):
        pass


def test_the_size_is_that_of_a_tiff_that_xmp_turns_upright() -> None:
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    assert check_image(encoded(photo(), "TIFF", tiffinfo={700: xmp}), LIMIT).size == SIZE[::-1]


# ---- bytes


@pytest.mark.parametrize("what", ["image", "mask"])
def test_a_file_of_exactly_as_many_bytes_as_allowed_is_taken_and_one_more_is_not(what: str) -> None:
    assert read_file(io.BytesIO(b"x" * 10), 10, what) == b"x" * 10
    with pytest.raises(TooLarge, match=f"{what}: the file is larger than the 10 bytes"):
        read_file(io.BytesIO(b"x" * 11), 10, what)


def test_of_a_file_that_is_too_large_no_more_is_read_than_tells_so() -> None:
    file = io.BytesIO(b"x" * 1000)
    with pytest.raises(TooLarge):
        read_file(file, 10, "image")
    assert file.tell() == 11


@pytest.mark.parametrize(("what", "error"), [("image", InvalidImage), ("mask", InvalidMask)])
def test_an_empty_file_is_named(what: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{what}: the file is empty"):
        read_file(io.BytesIO(), 10, what)


@pytest.mark.anyio
async def test_an_upload_of_exactly_the_allowed_size_is_accepted_over_http(redis_url: str) -> None:
    image, mask = encoded(photo()), encoded(box_mask())
    settings = ApiSettings(redis_url=redis_url, max_image_bytes=len(image), max_mask_bytes=len(mask))
    async with serve(settings) as client:
        assert (await client.post("/v1/inpaint", files=files(image, mask))).status_code == 202


@pytest.mark.anyio
async def test_an_image_and_a_mask_turned_by_different_orientations_meet_upright(client: httpx.AsyncClient) -> None:
    turned = with_orientation(photo((48, 64)), 6)  # upright 64 x 48
    response = await client.post("/v1/inpaint", files=files(turned, encoded(box_mask())))
    assert response.status_code == 202
