"""Uploads: read, measured by their header, and checked to be whole. A worker decodes the image, once."""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, Literal, NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from app.bands import decode, decoded_webp, stored_size
from app.signatures import HEIC, known_as, taken_but_unreadable
from jobs import heif_boxes, png_chunks, samples
from jobs.errors import InvalidField, InvalidImage, InvalidMask, RequestError, TooLarge
from jobs.file_structure import Unreasonable, check_structure
from jobs.formats import HAS_HEIC, HEIC_REMEDY, NAMES, PILLOW_FORMATS, SHOWN
from jobs.schema import OutputColor

IMAGE_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "I;16", "I;16B", "I;16L")
"""Pillow modes that are read. Not Lab without a profile, nor a photo in floating point: white would be a guess."""

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

Size = tuple[int, int]
Space = Literal["grey", "rgb", "cmyk"]


class Photo(NamedTuple):
    """Of an image that was checked. ``alpha``: whether it has an alpha channel or a transparent colour.

    ``bits``: bits a channel. ``space``: of its values. ``profile_space``: of those that its colour profile is for, in
    ICC's name; empty where it has none, or where something else says how its values look.
    """

    size: Size
    alpha: bool
    bits: int = 8
    space: Space = "rgb"
    profile_space: str = ""


_DAMAGED = "{what}: the file is damaged or cut short and cannot be decoded."
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"


def check_file(file: BinaryIO, limit_bytes: int, what: str) -> None:
    """Raise TooLarge, or Invalid... for an empty file, without holding its bytes. ``what``: "image" or "mask"."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    _check_bytes(size, limit_bytes, what)


def read_file(file: BinaryIO, limit_bytes: int, what: str) -> bytes:
    """All bytes of an uploaded file. Raises what ``check_file`` does."""
    data = file.read(limit_bytes + 1)
    _check_bytes(len(data), limit_bytes, what)
    return data


def _check_bytes(size: int, limit_bytes: int, what: str) -> None:
    if size > limit_bytes:
        raise TooLarge(f"{what}: the file is larger than the {limit_bytes} bytes that are allowed.")
    if not size:
        raise unreadable(what)(f"{what}: the file is empty. Send a {allowed_formats()} file.")


def allowed_formats() -> str:
    names = [SHOWN[NAMES[name]] for name in PILLOW_FORMATS]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def check_image(data: bytes, max_pixels: int) -> Photo:
    """Check that the image is whole and return its upright (width, height), and whether it has transparency.

    JPEG and PNG say by their own form whether they are whole, which is 20 times cheaper to read than their pixels;
    other formats are decoded. Raises InvalidImage, TooLarge.
    """
    with opened(data, max_pixels, "image") as image:
        _check_profile(image, data)
        if image.format in ("JPEG", "MPO"):
            _check_jpeg_ends(data)
        elif image.format == "WEBP":
            decoded_webp(image, data, grey=True)
        elif image.format in ("TIFF", "AVIF", "HEIF"):
            decode(data)
        stated = png_chunks.appearance(data)
        alpha = image.has_transparency_data or b"tRNS" in stated
        bits = heif_boxes.describe(data).bits if heif_boxes.is_heif(data) else samples.bits_of(image, data)
        grey = image.mode in (*samples.GREY_MODES, *samples.GREY_16)
        space: Space = "cmyk" if image.mode == "CMYK" else "grey" if grey else "rgb"
        return Photo(upright_size(image, orientation_of(image)), alpha, bits, space, _profile_space(image, stated))


def check_kept_depth(photo: Photo, output_color: OutputColor) -> None:
    """Raise InvalidField for a photo of more than 8 bits a channel that cannot be kept in them."""
    if photo.bits <= 8:
        return
    reason = ""
    if photo.bits != 16:
        reason = f"it has {photo.bits} bits a channel"
    elif photo.space == "cmyk":
        reason = "it is CMYK, which becomes sRGB in 8 bits"
    elif photo.space == "grey" and photo.profile_space not in ("", "GRAY" if output_color == "auto" else "RGB "):
        reason = "it is grey and the result cannot carry its colour profile, so that it is converted to sRGB in 8 bits"
    if reason:
        raise InvalidField(
            f"bit_depth: keep takes grey and RGB photos (PNG, TIFF) of 16 bits a channel. The image: {reason}. Send "
            "bit_depth=8 or another file."
        )


def orientation_of(image: Image.Image) -> int:
    """By EXIF, or by XMP where EXIF says nothing; 1 is upright. To be asked before the file is decoded."""
    exif = Image.Image.getexif(image)  # PNG's own decodes the pixels, to look for it behind them
    orientation: int = exif.get(ExifTags.Base.Orientation, 1)
    return orientation


def upright_size(image: Image.Image, orientation: int) -> Size:
    width, height = stored_size(image)
    return (height, width) if orientation in SIDEWAYS else (width, height)


def _profile_space(image: Image.Image, stated: Mapping[bytes, bytes]) -> str:
    if b"cICP" in stated:
        return ""
    packed = stated.get(b"iCCP")
    profile = (png_chunks.profile_in(packed) if packed else image.info.get("icc_profile")) or b""
    return profile[16:20].decode("latin-1")  # ICC.1:2022, 7.2


def _check_profile(image: Image.Image, data: bytes) -> None:
    """Raise TooLarge for a colour profile beyond what is carried."""
    packed = png_chunks.appearance(data).get(b"iCCP")
    profile = png_chunks.profile_in(packed) if packed else image.info.get("icc_profile")
    if profile and len(profile) > png_chunks.MAX_PROFILE_BYTES:
        limit = png_chunks.MAX_PROFILE_BYTES
        raise TooLarge(f"image: its colour profile is larger than the {limit} bytes that are allowed.")


def _check_jpeg_ends(data: bytes) -> None:
    """Raise InvalidImage where no end of image follows the first scan (ITU T.81, B.1.1).

    Looking for it from the start would find that of a preview in the header.
    """
    at = 2
    while (found := data.find(b"\xff", at)) >= 0:
        marker = data[found + 1] if found + 1 < len(data) else 0xFF
        if marker == _START_OF_SCAN:
            if data.find(_END_OF_IMAGE, found) < 0:
                break
            return
        at = found + 1 if marker == 0xFF else found + 2 + int.from_bytes(data[found + 2 : found + 4])
    raise InvalidImage(_DAMAGED.format(what="image"))


@contextmanager
def opened(data: bytes, max_pixels: int, what: str) -> Iterator[Image.Image]:
    """A picture whose header is read and checked. Whatever a decoder raises inside the block becomes our error.

    Raises InvalidImage or InvalidMask (by ``what``), TooLarge.
    """
    refusal = unreadable(what)
    try:
        check_structure(data)
        source = io.BytesIO(png_chunks.decodable(data))
        with Image.open(source, formats=PILLOW_FORMATS) as image:
            _check_header(image, max_pixels, what)
            if image.format == "PNG":
                png_chunks.check_whole(data)
            _check_mode(image, what)
            yield image
    except (RequestError, MemoryError):
        raise
    except Unreasonable as error:
        raise refusal(f"{what}: the file {error}, which no picture needs. Save it anew.") from None
    except (png_chunks.MalformedPng, samples.Unreadable) as error:
        raise refusal(f"{what}: {error}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(f"{what}: more pixels than the {max_pixels} that are allowed.") from None
    except UnidentifiedImageError:
        found = known_as(data) or taken_but_unreadable(data) or "not a picture in a known format"
        remedy = f" {HEIC_REMEDY}." if found == HEIC and not HAS_HEIC else ""
        raise refusal(f"{what}: this is {found}. Send a {allowed_formats()} file.{remedy}") from None
    except Exception as error:  # decoders raise anything at all on garbage
        raise refusal(_DAMAGED.format(what=what)) from error


def _check_header(image: Image.Image, max_pixels: int, what: str) -> None:
    width, height = image.size
    if width * height > max_pixels:
        message = f"{what}: {width} x {height} pixels are more than the {max_pixels} that are allowed."
        raise TooLarge(message)
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise unreadable(what)(f"{what}: the file holds {frames} pictures (pages or frames). Send a single one.")


def _check_mode(image: Image.Image, what: str) -> None:
    """Raise where the samples cannot be read, or where white would be a guess."""
    samples.check_layout(image)
    taken = (*IMAGE_MODES, "F") if what == "mask" else IMAGE_MODES
    if image.mode not in taken:
        raise samples.Unreadable(f"the colour mode {image.mode} is not supported. Send 8 or 16 bit grey or colour.")


def unreadable(what: str) -> type[RequestError]:
    """The error for a file that cannot be used. ``what``: "image" or "mask"."""
    return InvalidMask if what == "mask" else InvalidImage
