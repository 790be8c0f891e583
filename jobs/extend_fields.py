"""The fields that say by how much ``task=extend`` extends a photo: how they are written, and the borders they come to.

Sizes are (width, height), borders (left, top, right, bottom), both in pixels.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

Size = tuple[int, int]
Borders = tuple[int, int, int, int]

Side = Literal["center", "left", "right", "top", "bottom"]
Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
Anchor = Literal[Side, Corner]
ANCHORS: tuple[Anchor, ...] = get_args(Anchor)

LENGTH = re.compile(r"([0-9]{1,7})(\.[0-9]{1,4})?(%?)")
ASPECT = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,4})?):([0-9]{1,5}(?:\.[0-9]{1,4})?)")
SIZE = re.compile(r"([1-9][0-9]{0,6})x([1-9][0-9]{0,6})", re.IGNORECASE)


def _extend(text: str) -> str:
    parts = [LENGTH.fullmatch(part.strip()) for part in text.split(",")]
    if len(parts) != 4 or any(part is None or (part[2] and not part[3]) for part in parts):
        raise PydanticCustomError(
            "extend_form",
            "Write it as left,top,right,bottom, each in whole pixels or in percent of the photo, as in 0,25%,0,100",
        )
    return text


def _aspect(text: str) -> str:
    found = ASPECT.fullmatch(text.strip())
    if not (found and Fraction(found[1]) and Fraction(found[2])):
        raise PydanticCustomError("aspect_form", "Write it as width:height, both above 0, as in 16:9")
    return text


def _size(text: str) -> str:
    if not SIZE.fullmatch(text.strip()):
        raise PydanticCustomError("size_form", "Write it as WIDTHxHEIGHT in pixels, as in 1920x1080")
    return text


Extend = Annotated[str, Field(max_length=100), AfterValidator(_extend)]
Aspect = Annotated[str, Field(max_length=100), AfterValidator(_aspect)]
ExtendedSize = Annotated[str, Field(max_length=100), AfterValidator(_size)]


def borders_of(extend: Extend, size: Size) -> Borders:
    """The borders that ``extend`` names, of a photo of ``size``. A part of a pixel counts as a whole one."""
    left, top, right, bottom = (_length(part.strip(), size[side % 2]) for side, part in enumerate(extend.split(",")))
    return left, top, right, bottom


def _length(text: str, whole: int) -> int:
    value = Fraction(text.removesuffix("%"))
    return -(-value * whole // 100) if text.endswith("%") else int(value)


def size_with(aspect: Aspect, size: Size) -> Size:
    """The smallest size of this aspect, to the nearest pixel, in which a photo of ``size`` has room."""
    across, down = (Fraction(part) for part in aspect.strip().split(":"))
    width, height = size
    if width * down < height * across:
        return max(width, round(height * across / down)), height
    return width, max(height, round(width * down / across))


def size_of(text: ExtendedSize) -> Size:
    width, height = text.strip().lower().split("x")
    return int(width), int(height)


def borders_within(wanted: Size, size: Size, anchor: Anchor) -> Borders:
    """The borders that make a photo of ``size`` one of ``wanted``, which is no smaller; it stands at ``anchor``.

    Of an odd number of pixels, the right or lower side has one more.
    """
    sides: Sequence[str] = anchor.split("-")
    (left, right), (top, bottom) = (
        (0, spare) if first in sides else (spare, 0) if last in sides else (spare // 2, spare - spare // 2)
        for spare, first, last in ((wanted[0] - size[0], "left", "right"), (wanted[1] - size[1], "top", "bottom"))
    )
    return left, top, right, bottom
