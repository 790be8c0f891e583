"""What the boxes of an AVIF or HEIC file say (ISO/IEC 14496-12 and 23008-12), read in one bounded pass.

A box is a length of 4 bytes, a kind of 4 letters and content. Pictures are *items*; what describes them is a list of
properties, of which each item has some.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_BOXES = 4_000
MAX_ITEMS = 2_000
"""A phone's photo of 48 megapixels is 192 tiles and a few more items."""
MAX_ITEM_PX = 100_000_000
"""Of one item, whatever is put together of several."""

CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"iinf": None, b"iref": 4, b"moov": 0, b"trak": 0}
"""Boxes of boxes -> where these begin; after a count in ``iinf``."""
COUNTED = (b"iinf", b"iloc", b"ipma")
BITS = {0: 8, 1: 10}
"""By the flag for high depth in an av1C; 12 with a second flag (AV1-ISOBMFF, 2.3.3)."""
UNSPECIFIED = 2
SRGB = (1, 13)
"""Primaries and transfer (ITU-T H.273, tables 2 and 3)."""


class TooManyBoxes(ValueError):
    """The text is a phrase for the caller, without a subject."""


@dataclass(frozen=True)
class Box:
    """``parents``: the kinds of the boxes it is in. ``start`` to ``end``: its content."""

    kind: bytes
    parents: tuple[bytes, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Description:
    """``bits`` a channel; ``chunks``: the PNG chunk that says how its values look, if no profile does."""

    bits: int
    chunks: dict[bytes, bytes]


def is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp"


def check_boxes(data: bytes) -> None:
    """Raise TooManyBoxes where a decoder would have to work through more parts than a photo has, or far larger ones."""
    for box in _boxes(data):
        if box.kind in COUNTED and (count := _count(data, box)) > MAX_ITEMS:
            raise TooManyBoxes(f"has {count} pictures or parts of pictures; at most {MAX_ITEMS} are read")
        if box.parents[-1:] == (b"iref",) and _number(data, box.start + 2, 2) > MAX_ITEMS:
            raise TooManyBoxes(f"has a picture of more than {MAX_ITEMS} parts")
        if box.kind == b"ispe":
            width, height = _number(data, box.start + 4, 4), _number(data, box.start + 8, 4)
            if width * height > MAX_ITEM_PX:
                raise TooManyBoxes(f"has a picture of {width} x {height} pixels in it")


def describe(data: bytes) -> Description:
    """Of the primary item. Whatever is missing or damaged counts as 8 bits, and as not stated."""
    boxes = [*_boxes(data)]
    properties = [box for box in boxes if box.parents[-1:] == (b"ipco",)]
    primary = _own(data, boxes, properties)
    depths = [_bits(data, box) for box in (*primary, *properties) if box.kind in (b"pixi", b"av1C", b"hvcC")]
    return Description(depths[0] if depths else 8, _colour(data, primary))


def _boxes(data: bytes) -> Iterator[Box]:
    """All boxes that matter, those in others behind these. Raises TooManyBoxes."""
    waiting: list[tuple[int, int, tuple[bytes, ...]]] = [(0, len(data), ())]
    count = 0
    while waiting:
        at, end, parents = waiting.pop()
        while at + 8 <= end:
            count += 1
            if count > MAX_BOXES:
                raise TooManyBoxes(f"has more than {MAX_BOXES} boxes")
            length, kind, head = _number(data, at, 4), data[at + 4 : at + 8], 8
            if length == 1:
                length, head = _number(data, at + 8, 8), 16
            stop = min(at + length, end) if length else end
            box = Box(kind, parents, at + head, stop)
            yield box
            if kind in CONTAINERS and len(parents) < len(CONTAINERS):
                skipped = CONTAINERS[kind]
                begin = box.start + (_wide(data, box, 6, 8) if skipped is None else skipped)
                waiting.append((begin, stop, (*parents, kind)))
            at = stop


def _number(data: bytes, at: int, size: int) -> int:
    """0 beyond the end."""
    return int.from_bytes(data[at : at + size])


def _wide(data: bytes, box: Box, short: int, long: int) -> int:
    """By the version of a box, which is its first byte."""
    return long if data[box.start : box.start + 1] > b"\0" else short


def _count(data: bytes, box: Box) -> int:
    """Of items, in one of ``COUNTED``."""
    if box.kind == b"iinf":
        return _number(data, box.start + 4, _wide(data, box, 2, 4))
    if box.kind == b"iloc":
        return _number(data, box.start + 6, 4 if data[box.start : box.start + 1] > b"\1" else 2)
    return _number(data, box.start + 4, 4)


def _own(data: bytes, boxes: list[Box], properties: list[Box]) -> list[Box]:
    """The properties of the primary item."""
    primary = next((_number(data, box.start + 4, _wide(data, box, 2, 4)) for box in boxes if box.kind == b"pitm"), None)
    for box in boxes:
        if box.kind == b"ipma":
            for item, numbers in _associations(data, box):
                if item == primary:
                    return [properties[number - 1] for number in numbers if 0 < number <= len(properties)]
    return []


def _associations(data: bytes, box: Box) -> Iterator[tuple[int, list[int]]]:
    """Items and the numbers of their properties, counted from 1 (ISO/IEC 23008-12, 9.3.2)."""
    size, at = _wide(data, box, 2, 4), box.start + 8
    step = 2 if _number(data, box.start + 1, 3) & 1 else 1
    for _ in range(min(_count(data, box), MAX_ITEMS)):
        if at + size + 1 > box.end:
            return
        begin = at + size + 1
        at = begin + step * _number(data, at + size, 1)
        essential = 1 << (8 * step - 1)
        yield (
            _number(data, begin - size - 1, size),
            [_number(data, place, step) & ~essential for place in range(begin, min(at, box.end), step)],
        )


def _bits(data: bytes, box: Box) -> int:
    if box.kind == b"pixi":
        return _number(data, box.start + 5, 1) or 8
    if box.kind == b"hvcC":
        return 8 + (_number(data, box.start + 17, 1) & 7)
    flags = _number(data, box.start + 2, 1)
    return 12 if flags & 0x60 == 0x60 else BITS[flags >> 6 & 1]


def _colour(data: bytes, primary: list[Box]) -> dict[bytes, bytes]:
    """The PNG chunk for the code points of an ``nclx``; a profile, if there is one, is what counts."""
    kinds = {data[box.start : box.start + 4]: box.start + 4 for box in reversed(primary) if box.kind == b"colr"}
    if b"prof" in kinds or b"rICC" in kinds or b"nclx" not in kinds:
        return {}
    primaries, transfer = struct.unpack(">HH", data[kinds[b"nclx"] : kinds[b"nclx"] + 4].ljust(4, b"\0"))
    if (primaries, transfer) == SRGB:
        return {b"sRGB": b"\0"}
    if UNSPECIFIED in (primaries, transfer) or max(primaries, transfer) > 255:
        return {}
    return {b"cICP": bytes([primaries, transfer, 0, 1])}
