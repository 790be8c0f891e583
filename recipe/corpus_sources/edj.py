"""Enlightenment's theme files (`.edj`): an archive that holds its pictures as whole JPEG streams."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

JPEG_START = b"\xff\xd8\xff"


def largest_jpeg(data: bytes) -> bytes:
    """The JPEG of the most pixels among those found by their first bytes. Raises ValueError if there is none.

    A piece reaches to the next start; what follows a picture's own end is ignored by every JPEG reader.
    """
    starts = list(_starts(data))
    pieces = [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
    sized = [(_pixels(piece), -index) for index, piece in enumerate(pieces)]
    pixels, index = max(sized, default=(0, 0))
    if not pixels:
        raise ValueError("no JPEG picture in this file")
    return pieces[-index]


def _starts(data: bytes) -> list[int]:
    starts, at = [], data.find(JPEG_START)
    while at >= 0:
        starts.append(at)
        at = data.find(JPEG_START, at + len(JPEG_START))
    return starts


def _pixels(piece: bytes) -> int:
    """0 for a piece that is no picture: three such bytes can stand anywhere."""
    try:
        with Image.open(io.BytesIO(piece)) as image:
            return image.width * image.height
    except (UnidentifiedImageError, OSError, SyntaxError):
        return 0
