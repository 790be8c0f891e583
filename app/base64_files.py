"""Pictures in JSON: base64, alone or as a data URL (RFC 2397) -> files, piece by piece."""

import binascii
import io
import json
import re
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from starlette.datastructures import UploadFile

from app.bodies import arriving, discard
from app.json_bodies import JsonBody
from jobs.errors import InvalidField

PART_BYTES = 2**16
MEMORY_BYTES = 2**20
"""Of a picture; larger ones are kept on disk, as those of forms are."""

_BLANKS = b" \t\r\n\f"
_HEAD = re.compile(rb"data:([^,]{0,1000}),", re.IGNORECASE)
_CUT = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
"""The beginning of an escape at the end of a part."""


def file_of(body: JsonBody, name: str, text: str) -> UploadFile:
    """The picture that a text of ``body`` is. ``name``: of the field, for errors. Raises InvalidField, SpoolFull."""
    long = body.long_texts.get(text)
    source: BinaryIO = long.file if long else io.BytesIO(text.encode(errors="replace"))
    target = cast("BinaryIO", SpooledTemporaryFile(max_size=MEMORY_BYTES))  # noqa: SIM115  # closed with the form
    try:
        with arriving():
            for part in _decoded(_base64_of(_unescaped(source) if long else _parts(source), name)):
                target.write(part)
            size = target.tell()
            target.seek(0)
    except (binascii.Error, ValueError):
        discard(target)
        raise InvalidField(
            f"{name}: this is not base64. Send a picture's bytes in base64, alone or as a data URL "
            "(data:image/png;base64,...)."
        ) from None
    except BaseException:
        discard(target)
        raise
    return UploadFile(target, size=size, filename=name)


def _parts(source: BinaryIO) -> Iterator[bytes]:
    source.seek(0)
    while part := source.read(PART_BYTES):
        yield part


def _unescaped(source: BinaryIO) -> Iterator[bytes]:
    """The text that a JSON string is: some clients escape ``/``, others ``+``. Raises ValueError."""
    kept = b""
    for part in _parts(source):
        text = kept + part
        cut = _CUT.search(text)
        text, kept = (text[: cut.start()], text[cut.start() :]) if cut else (text, b"")
        yield json.loads(b'"%b"' % text).encode(errors="replace") if b"\\" in text else text
    if kept:
        raise ValueError("the text ends inside an escape")


def _base64_of(parts: Iterator[bytes], name: str) -> Iterator[bytes]:
    """The text without blanks and without the head of a data URL. Raises InvalidField."""
    first = next(parts, b"").lstrip(_BLANKS)
    head = _HEAD.match(first)
    if head and not head[1].lower().replace(b" ", b"").endswith(b";base64"):
        raise InvalidField(f"{name}: the data URL is not in base64. Send data:image/png;base64,...")
    yield (first[head.end() :] if head else first).translate(None, _BLANKS)
    for part in parts:
        yield part.translate(None, _BLANKS)


def _decoded(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Bytes of base64 with or without its padding (RFC 4648, section 4). Raises binascii.Error."""
    kept = b""
    for part in parts:
        text = kept + part
        whole = max(0, (len(text) - 1) // 4 * 4)  # the last group, which may be padded, waits
        kept = text[whole:]
        yield binascii.a2b_base64(text[:whole], strict_mode=True)
        if b"=" in text[:whole]:
            raise ValueError("data behind the padding")
    padding = b"" if b"=" in kept else b"=" * (-len(kept) % 4)
    yield binascii.a2b_base64(kept + padding, strict_mode=True)
