"""Uploads: read, measured before they are decoded, then decoded to the last byte."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from jobs.errors import InvalidImage, InvalidMask, RequestError, TooLarge

FORMATS = {"PNG": "PNG", "JPEG": "JPEG", "MPO": "JPEG", "WEBP": "WebP", "TIFF": "TIFF"}
"""Pillow's name -> ours. MPO is a JPEG with a preview or gain map behind it, as phones write; the first one counts."""

IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "I;16", "I;16B", "I;16L")
"""Pillow modes the worker can decode. Not floating point, not Lab without a profile: what white is would be a guess."""

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

Size = tuple[int, int]


def read_file(file: BinaryIO, limit_bytes: int, what: str) -> bytes:
    """All bytes of an uploaded file. ``what``: "image" or "mask". Raises TooLarge, and Invalid... for an empty file."""
    data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise TooLarge(f"{what}: the file is larger than the {limit_bytes} bytes that are allowed.")
    if not data:
        raise _unreadable(what)(f"{what}: the file is empty. Send a {allowed_formats()} file.")
    return data


def allowed_formats() -> str:
    names = list(dict.fromkeys(FORMATS.values()))
    return f"{', '.join(names[:-1])} or {names[-1]}"


def check_image(data: bytes, max_pixels: int) -> Size:
    """Decode the whole image, so that a truncated one is caught here, and return its upright (width, height).

    Raises InvalidImage, TooLarge.
    """
    with opened(data, max_pixels, "image") as image:
        if image.mode not in IMAGE_MODES:
            raise InvalidImage(
                f"image: the colour mode {image.mode} is not supported. Send 8 or 16 bit grey or colour."
            )
        size = image.size
        if image.format == "JPEG":
            image.draft(image.mode, (1, 1))  # reads every code of the file, skips most of the inverse transform
        image.load()
        if image.mode == "I" and not _within_16_bits(image):
            raise InvalidImage("image: the file has 32 bits a pixel. Send 8 or 16 bits a channel.")
        return size[::-1] if _is_sideways(image) else size


@contextmanager
def opened(data: bytes, max_pixels: int, what: str) -> Iterator[Image.Image]:
    """A picture whose header is read and checked. Whatever a decoder raises inside the block becomes our error.

    Raises InvalidImage or InvalidMask (by ``what``), TooLarge.
    """
    unreadable = _unreadable(what)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP", "TIFF")) as image:
            _check_header(image, max_pixels, what)
            yield image
    except RequestError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(f"{what}: more pixels than the {max_pixels} that are allowed.") from None
    except UnidentifiedImageError:
        raise unreadable(f"{what}: this is not a picture in a known format. Send a {allowed_formats()} file.") from None
    except Exception as error:  # decoders raise anything at all on garbage
        raise unreadable(f"{what}: the file is damaged or cut short and cannot be decoded.") from error


def _check_header(image: Image.Image, max_pixels: int, what: str) -> None:
    width, height = image.size
    if width * height > max_pixels:
        message = f"{what}: {width} x {height} pixels are more than the {max_pixels} that are allowed."
        raise TooLarge(message)
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise _unreadable(what)(f"{what}: the file holds {frames} pictures (pages or frames). Send a single one.")


def _is_sideways(image: Image.Image) -> bool:
    return image.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS


def _within_16_bits(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return bool(pixels.min() >= 0 and pixels.max() <= 65_535)


def _unreadable(what: str) -> type[RequestError]:
    return InvalidMask if what == "mask" else InvalidImage
