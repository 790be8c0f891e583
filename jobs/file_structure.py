"""What a picture file may cost before a single pixel is decoded: its structure, read in one bounded pass.

Decoders work through a file's parts one by one, some of them in Python and some once over all pixels for each part, so
that a few kilobytes of tiny parts can buy minutes. Limits here are far above what real files have.
"""

import re
import struct
from collections.abc import Iterator

from jobs.heif_boxes import TooManyBoxes, check_boxes, is_heif

JPEG_SCANS = 100
"""Each is a pass over all coefficients (ITU T.81, G.1). Progressive encoders write about ten."""
JPEG_SEGMENTS = 1_000
JPEG_FILL_BYTES = 1_024
RIFF_CHUNKS = 1_000
TIFF_DIRECTORIES = 32
TIFF_TAGS = 400
TIFF_VALUES = 1_000_000
TIFF_TILE_PX = 1_048_576
"""A tile of a TIFF is decoded whole: it may have so many pixels, or four times the picture's."""

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""In entropy-coded data: a marker that is neither a stuffed zero nor a restart. Filling may stand before it."""
_SOS, _EOI = 0xDA, 0xD9
_ALONE = {0x01, *range(0xD0, 0xD9)}
"""JPEG markers without a length: TEM, RST, SOI."""
_SHORT, _BYTES = 3, (1, 2, 7)
"""Types of a TIFF's values; those of single bytes are read at once, others become a number each."""
_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 322, 323


_MANIFEST_STORE = b"jumd" + bytes.fromhex("6332706100110010800000aa00389b71")
"""How a C2PA manifest store's description begins, 8 bytes behind the store's own length, whatever file it lies in."""


class Unreasonable(ValueError):
    """The file's structure is no reasonable picture's; the text is a phrase for the caller, without a subject."""


def manifest_bytes(data: bytes) -> int:
    """The length of a file's C2PA manifest store, as the store states it; 0 where there is none.

    It stands in one piece as far as its description in each format (C2PA specification 2.4, appendix A), JPEG included.
    """
    at = data.find(_MANIFEST_STORE) - 12
    return (int.from_bytes(data[at : at + 4]) or len(data) - at) if at >= 0 else 0


def check_structure(data: bytes) -> None:
    """Raise Unreasonable for a file that a decoder would have to work through part by part: JPEG, WebP, TIFF, AVIF.

    Other files, and files that are damaged in other ways, pass: a decoder refuses them. PNGs: ``jobs/png_chunks.py``.
    """
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        _check_webp(data)
    elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _check_tiff(data)
    elif is_heif(data):
        try:
            check_boxes(data)
        except TooManyBoxes as error:
            raise Unreasonable(str(error)) from None


def _check_jpeg(data: bytes) -> None:
    at, scans, segments, skipped = 2, 0, 0, 0
    while (found := data.find(b"\xff", at)) >= 0:
        skipped += found - at
        marker_at = found
        while marker_at < len(data) and data[marker_at] == 0xFF and marker_at - found <= JPEG_FILL_BYTES + 1:
            marker_at += 1
        skipped += marker_at - found - 1
        segments += 1
        if skipped > JPEG_FILL_BYTES:
            raise Unreasonable(f"has more than {JPEG_FILL_BYTES} bytes of filling between its segments")
        if segments > JPEG_SEGMENTS:
            raise Unreasonable(f"has more than {JPEG_SEGMENTS} segments")
        if marker_at + 3 > len(data) or data[marker_at] == _EOI:
            return
        at = marker_at + 1
        if data[marker_at] in _ALONE:
            continue
        at += int.from_bytes(data[at : at + 2])
        if data[marker_at] == _SOS:
            scans += 1
            if scans > JPEG_SCANS:
                raise Unreasonable(f"has more than {JPEG_SCANS} scans")
            following = _MARKER.search(data, at)
            if following is None:
                return
            marker_at = following.start()
            before = data[max(at, marker_at - JPEG_FILL_BYTES - 1) : marker_at]
            at = marker_at - len(before) + len(before.rstrip(b"\xff"))


def _check_webp(data: bytes) -> None:
    """Chunks of a kind, a length and content of even length (RFC 9649, 2.3)."""
    at, end = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    for _ in range(RIFF_CHUNKS + 1):
        if at + 8 > end:
            return
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    raise Unreasonable(f"has more than {RIFF_CHUNKS} chunks")


def _check_tiff(data: bytes) -> None:
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    form = _Big(order) if big else _Classic(order)
    seen: set[int] = set()
    at = form.offset(data, 8 if big else 4)
    while at:
        if at in seen or len(seen) >= TIFF_DIRECTORIES:
            raise Unreasonable(f"has more than {TIFF_DIRECTORIES} directories, or one that leads back to itself")
        seen.add(at)
        sides: dict[int, int] = {}
        count, tags_at = form.count(data, at)
        if count > TIFF_TAGS:
            raise Unreasonable(f"has a directory of more than {TIFF_TAGS} tags")
        for tag, kind, values, value in form.tags(data, tags_at, count):
            if kind not in _BYTES and values > TIFF_VALUES:
                raise Unreasonable(f"has a tag of more than {TIFF_VALUES} numbers")
            sides[tag] = value
        tile = sides.get(_TILE_WIDTH, 0) * sides.get(_TILE_LENGTH, 0)
        if tile > max(TIFF_TILE_PX, 4 * sides.get(_WIDTH, 0) * sides.get(_LENGTH, 0)):
            raise Unreasonable("has tiles that are far larger than the picture")
        at = form.offset(data, tags_at + count * form.tag_bytes)


class _Classic:
    """A TIFF's numbers, read leniently: 0 beyond the file's end (TIFF 6.0, section 2)."""

    count_form, offset_form, tag_form, tag_bytes = "H", "I", "HHI", 12

    def __init__(self, order: str) -> None:
        self.order = order

    def _read(self, form: str, data: bytes, at: int) -> int:
        form = self.order + form
        return int(struct.unpack_from(form, data, at)[0]) if at + struct.calcsize(form) <= len(data) else 0

    def offset(self, data: bytes, at: int) -> int:
        return self._read(self.offset_form, data, at)

    def count(self, data: bytes, at: int) -> tuple[int, int]:
        """Tags in a directory, and where they begin."""
        return self._read(self.count_form, data, at), at + struct.calcsize(self.count_form)

    def tags(self, data: bytes, at: int, count: int) -> Iterator[tuple[int, int, int, int]]:
        """Each tag's number, type, how many values it has, and the first one as far as it stands in the tag itself."""
        head = self.order + self.tag_form
        for start in range(at, min(at + count * self.tag_bytes, len(data) - self.tag_bytes + 1), self.tag_bytes):
            tag, kind, values = struct.unpack_from(head, data, start)
            value = self._read("H" if kind == _SHORT else "I", data, start + struct.calcsize(head))
            yield tag, kind, values, value


class _Big(_Classic):
    """BigTIFF: 64-bit counts and offsets."""

    count_form, offset_form, tag_form, tag_bytes = "Q", "Q", "HHQ", 20
