"""What the headers of a request, or of one part of a form, say of its bytes: the kind, the charset, encodings."""

import re
from collections.abc import Sequence

from fastapi import Request
from fastapi.exceptions import HTTPException
from python_multipart.multipart import parse_options_header

from jobs.errors import UnsupportedCharset, UnsupportedEncoding

FORM, JSON = "multipart/form-data", "application/json"

UTF_8 = {"utf-8": "utf-8", "utf8": "utf-8"}
"""The charset of a body -> Python's name. Not ``codecs.lookup``: it keeps every name that it is ever asked for."""
CHARSETS = UTF_8 | {"us-ascii": "ascii", "iso-8859-1": "latin-1", "latin1": "latin-1"}
"""The charset that the text of one part may be in."""

_QUOTED = re.compile(rb'"(?:[^"\\]|\\.?)*+(?:"|\Z)', re.DOTALL)
"""A quoted string, up to the end where nothing closes it: each byte is looked at once."""


def check_kind(request: Request) -> str:
    """``FORM`` or ``JSON``, before a byte of the body is read; checks that it can be, by what its headers say of it.

    Raises HTTPException 400 and 415, UnsupportedCharset, UnsupportedEncoding.
    """
    return check_kind_among(
        request, (FORM, JSON), f"Send {FORM}, with the files image and mask, or {JSON}, with them in base64."
    )


def check_kind_among(request: Request, taken: Sequence[str], remedy: str) -> str:
    """The same for a body that may be of other kinds; ``remedy``: said where it is none of them."""
    kinds = request.headers.getlist("content-type")
    if len(kinds) > 1:
        raise HTTPException(400, f"The request has {len(kinds)} headers Content-Type. Send one.")
    described = kinds[0] if kinds else ""
    kind = parse_options_header(described)[0].decode("latin-1")
    if kind not in taken:
        raise HTTPException(415, remedy)
    if kind == FORM and len(spellings(described.encode("latin-1"), b"boundary")) > 1:
        raise HTTPException(400, "The Content-Type has several boundaries. Send one.")
    charset_of(described, UTF_8, "Content-Type")
    for header, allowed in (("Content-Encoding", {"", "identity"}), ("Transfer-Encoding", {"chunked"})):
        for encoding in request.headers.getlist(header):
            if encoding.strip().lower() not in allowed:
                raise UnsupportedEncoding(f"{header}: {encoding[:100]!r} is not taken. Send the body as it is.")
    return kind


def charset_of(content_type: str, taken: dict[str, str], what: str) -> str:
    """Python's name of the charset that a Content-Type names; UTF-8 where it names none. Raises UnsupportedCharset."""
    named_as = spellings(content_type.encode("latin-1"), b"charset")
    options = parse_options_header(content_type)[1]
    if not named_as and b"charset" not in options:
        return "utf-8"
    named = options.get(b"charset", b"").decode("latin-1").strip().lower()
    if named_as != [b"charset"] or named not in taken:
        found = repr(named[:100]) if named_as == [b"charset"] else "a charset in this form"
        raise UnsupportedCharset(f"{what}: {found} is not taken. Send UTF-8, with charset=utf-8 or without a charset.")
    return taken[named]


def spellings(header: bytes, parameter: bytes) -> list[bytes]:
    """Each time that a header names a parameter, as ``name`` or in a form of RFC 2231: ``name*``, ``name*0``."""
    pattern = rb";[ \t]*(" + parameter + rb"(?:\*[^;=]*)?)[ \t]*(?=[;=]|\Z)"
    return [name.lower() for name in re.findall(pattern, _QUOTED.sub(b"", header), re.IGNORECASE)]
