"""``task=extend``: the fields that it takes, and the borders that they come to."""

from app.uploads import Size
from jobs.errors import InvalidField, TooLarge
from jobs.extend_fields import Borders, borders_of, borders_within, size_of, size_with
from jobs.schema import Extension, InpaintRequest

WAYS = ("extend", "aspect", "size")
MAX_SIDE_PX = 1_000_000
"""libpng, and what is built on it, reads no longer one."""
FIELDS = (*WAYS, "anchor")
"""Of ``task=extend`` alone."""


def check_fields(request: InpaintRequest, has_mask: bool) -> None:
    """Raise InvalidField for fields that do not go with the task, or with each other."""
    sent = [name for name in FIELDS if getattr(request, name) is not None]
    if request.task != "extend":
        if sent:
            raise InvalidField(f"{', '.join(sent)}: only task=extend reads it. Send task=extend, or leave it out.")
        return
    ways = [name for name in sent if name in WAYS]
    if len(ways) != 1:
        raise InvalidField(
            f"{', '.join(ways or WAYS)}: task=extend takes exactly one of extend=left,top,right,bottom, aspect=16:9 "
            "and size=WIDTHxHEIGHT."
        )
    if request.anchor and request.extend:
        raise InvalidField("anchor: it is for aspect and size; extend names each side by itself. Leave it out.")
    fields = InpaintRequest.model_fields
    masks = [name for name in fields if name.startswith("mask_") and getattr(request, name) != fields[name].default]
    if has_mask or masks:
        raise InvalidField(
            f"{', '.join(['mask'] * has_mask + masks)}: task=extend repaints the new border and nothing else. "
            "Leave it out."
        )


def plan(request: InpaintRequest, size: Size, max_pixels: int) -> Extension | None:
    """What becomes of an upright photo of ``size``; None where the task is another one.

    Raises InvalidField for an extension by nothing, or a size that is below the photo's; TooLarge.
    """
    if request.task != "extend":
        return None
    left, top, right, bottom = borders = _borders(request, size)
    width, height = size[0] + left + right, size[1] + top + bottom
    way = next(name for name in WAYS if getattr(request, name))
    if not any(borders):
        raise InvalidField(f"{way}: it adds nothing to the photo, which is {size[0]} x {size[1]} pixels already.")
    if width * height > max_pixels:
        raise TooLarge(
            f"{way}: the photo would become {width} x {height} pixels, more than the {max_pixels} that are allowed."
        )
    if max(width, height) > MAX_SIDE_PX:
        raise TooLarge(f"{way}: the photo would become {max(width, height)} pixels long; {MAX_SIDE_PX} are allowed.")
    return Extension(left=left, top=top, right=right, bottom=bottom, width=width, height=height)


def _borders(request: InpaintRequest, size: Size) -> Borders:
    if request.extend:
        return borders_of(request.extend, size)
    if request.aspect:
        wanted = size_with(request.aspect, size)
    else:
        assert request.size, "the fields have been checked"
        wanted = size_of(request.size)
        if wanted[0] < size[0] or wanted[1] < size[1]:
            raise InvalidField(
                f"size: the photo is {size[0]} x {size[1]} pixels upright, and an extension takes nothing away from "
                "it. Send a width and a height that are at least these."
            )
    return borders_within(wanted, size, request.anchor or "center")
