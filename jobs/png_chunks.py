"""A PNG's chunks, read without decoding a pixel (PNG specification, third edition, section 5).

Texts and profiles can be longer than Pillow reads (1 MiB), or small chunks that inflate to gigabytes. Nothing here
inflates more than ``MAX_PROFILE_BYTES``, and Pillow receives a file without them.
"""

import re
import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_PROFILE_BYTES = 16 * 2**20
"""Longest colour profile that is taken; what a JPEG can hold is just below it."""

MAX_CHUNKS = 20_000
"""A PNG of 32 MiB has about 4,000, in the usual 8 KiB each."""

APPEARANCE = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"mDCV", b"cLLI", b"pHYs", b"tRNS")
"""Chunks on which it depends how the pixels look."""

DECODED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"acTL", b"fcTL", b"fdAT")
"""Chunks from which a decoder makes upright pixels, or finds that there are several pictures."""

TEXTS = (b"tEXt", b"zTXt", b"iTXt")

MANIFEST = b"caBX"
"""C2PA's (specification 2.4, appendix A)."""

XMP = b"XML:com.adobe.xmp"
ORIENTATION_TEXTS = (XMP, b"Raw profile type exif", b"exif")
"""Keywords of the texts in which Pillow looks for an orientation."""

Chunk = tuple[bytes, int, int]
"""Kind, start and end; the kind stands 4 bytes behind the start, and the end is behind the checksum."""

_DAMAGED = "the file is damaged or cut short and cannot be decoded."


class MalformedPng(ValueError):
    """The file is no sound PNG; the message ends the sentence that begins with the file's name."""


def is_png(data: bytes) -> bool:
    return data.startswith(SIGNATURE)


def check_whole(data: bytes) -> None:
    """Raise MalformedPng where a checksum is wrong, or the pixels or the end are missing."""
    view, kinds = memoryview(data), set[bytes]()
    for kind, start, end in _chunks(data):
        kinds.add(kind)
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise MalformedPng(_DAMAGED)
    if not {b"IDAT", b"IEND"} <= kinds:
        raise MalformedPng(_DAMAGED)


def appearance(data: bytes) -> dict[bytes, bytes]:
    """The chunks of ``APPEARANCE`` before the pixels, the first of each kind; empty for other files than PNG."""
    found: dict[bytes, bytes] = {}
    for kind, start, stop in _chunks(data) if is_png(data) else ():
        if kind == b"IDAT":
            break
        if kind in APPEARANCE:
            found.setdefault(kind, data[start + 8 : stop - 4])
    return found


def text_of(data: bytes, keyword: bytes) -> str | None:
    """The first text of that keyword; at most ``MAX_PROFILE_BYTES`` of it. Raises MalformedPng."""
    for kind, start, end in _chunks(data):
        if kind in TEXTS and data[start + 8 : end - 4].startswith(keyword + b"\0"):
            text = _text(kind, data[start + 8 + len(keyword) + 1 : end - 4])
            return text[:MAX_PROFILE_BYTES].decode("utf-8" if kind == b"iTXt" else "latin-1", "replace")
    return None


def profile_in(iccp: bytes) -> bytes | None:
    """The profile of an iCCP chunk, cut off behind ``MAX_PROFILE_BYTES`` + 1 bytes; None where it cannot be read."""
    _, _, packed = iccp.partition(b"\0")
    return _inflated(packed[1:], whole=True) if packed[:1] == b"\0" else None


def decodable(data: bytes) -> bytes:
    """The file with what a decoder needs: of texts only an orientation is left, and all of it before the pixels.

    A file that is cut short stays so; other files than PNG, and those without anything else, are returned as they are.
    Raises MalformedPng.
    """
    if not is_png(data):
        return data
    view, seen = memoryview(data), set[bytes]()
    kind, end, unchanged = b"", len(SIGNATURE), True
    head: list[bytes | memoryview] = [SIGNATURE]
    pixels: list[bytes | memoryview] = []
    for kind, start, end in _chunks(data):
        if kind in TEXTS:
            keyword, _, rest = data[start + 8 : end - 4].partition(b"\0")
            if keyword in ORIENTATION_TEXTS and keyword not in seen:
                seen.add(keyword)
                head.append(_orientation(kind, keyword, rest))
        elif kind in DECODED:
            behind = kind != b"eXIf" and (pixels or kind == b"IDAT")
            unchanged = unchanged and (not pixels or bool(behind))
            (pixels if behind else head).append(view[start:end])
        unchanged = unchanged and kind in DECODED
    cut_short = b"" if kind == b"IEND" else view[end:]
    if unchanged and (cut_short or end == len(data)):
        return data
    return b"".join([*head, *pixels, cut_short])


def without(data: bytes, kind: bytes) -> bytes:
    """A whole PNG without its chunks of that kind. Raises MalformedPng."""
    view = memoryview(data)
    return b"".join([SIGNATURE, *(view[start:end] for found, start, end in _chunks(data) if found != kind)])


def chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join([struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))])


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Up to the end chunk, or to the last one that is there to its end. Raises MalformedPng."""
    at = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        stop = at + 12 + int.from_bytes(data[at : at + 4])
        if stop > len(data):
            return
        kind = data[at + 4 : at + 8]
        if (kind == b"IHDR") != (at == len(SIGNATURE)):  # decoders take the last of several
            raise MalformedPng(_DAMAGED)
        yield kind, at, stop
        if kind == b"IEND":
            return
        at = stop
    raise MalformedPng(f"the file has more than {MAX_CHUNKS} PNG chunks. Send one with fewer.")


def _orientation(kind: bytes, keyword: bytes, rest: bytes) -> bytes:
    """A text chunk with what a text says of the orientation; nothing where it says nothing."""
    text = _text(kind, rest)
    if keyword == XMP:
        found = re.search(rb'tiff:Orientation(="|>)([0-9])', text)
        return chunk(b"iTXt", keyword + b"\0\0\0\0\0" + found.group()) if found else b""
    return chunk(b"tEXt", keyword + b"\0" + text)


def _text(kind: bytes, rest: bytes) -> bytes:
    """What stands behind a text chunk's keyword, inflated where it is compressed."""
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _inflated(rest[1:]) or b""
    text = rest[2:].split(b"\0", 2)[-1]  # behind language and translated keyword
    return (_inflated(text) or b"") if rest[:1] == b"\1" else text


def _inflated(data: bytes, *, whole: bool = False) -> bytes | None:
    """At most ``MAX_PROFILE_BYTES`` + 1 bytes. None for damaged data, and for data without an end if ``whole``."""
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return None
    return None if whole and not (stream.eof or len(plain) > MAX_PROFILE_BYTES) else plain
