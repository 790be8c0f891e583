"""The multipart body of a submission, read whole; each part as its own headers describe it (RFC 7578)."""

import errno
import json
import logging
import re
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import HTTPException
from fastapi.routing import APIRoute
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser, MultipartPart
from starlette.requests import ClientDisconnect

from app.submission import FILES, InpaintForm, check_names
from jobs.errors import InvalidField, SpoolFull

logger = logging.getLogger("infill.api")

RETRY_AFTER_S = 5
MAX_FIELDS, MAX_FILES, MAX_TEXT_BYTES = 100, 10, 65_536

TEXTS = set(InpaintForm.model_fields) - FILES

CHARSETS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "ascii", "iso-8859-1": "latin-1", "latin1": "latin-1"}
"""What a text may be in -> Python's name. Not ``codecs.lookup``: it keeps every name that it is ever asked for."""

AS_THEY_ARE = {"", "7bit", "8bit", "binary"}
"""Transfer encodings that change no byte."""

SINGLE = (b"content-disposition", b"content-type", b"content-transfer-encoding")
"""Headers that a part may have once."""

_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NAME = re.compile(rb";[ \t]*name[ \t]*(\*[^;=]*)?=", re.IGNORECASE)


class FormRoute(APIRoute):
    """A route of which FastAPI finds the form already read, by ``read_form``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read_and_handle(request: Request) -> Response:
            check_query(request)
            request._form = await read_form(request)
            return await handle(request)

        return read_and_handle


def check_query(request: Request) -> None:
    """Raise InvalidField for query parameters: nobody would read them."""
    if names := list(dict.fromkeys(request.query_params)):
        quoted = ", ".join(repr(name[:100]) for name in names[:10])
        raise InvalidField(f"{quoted}: sent in the address, which takes no query parameters. Send form fields.")


async def read_form(request: Request) -> FormData:
    """All parts of the body. Raises HTTPException 400 and 415, InvalidField, UnknownField, SpoolFull, and what a
    ``Body`` raises."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise HTTPException(415, "Send multipart/form-data, with the files image and mask.")
    _charset(options, "utf-8", "Content-Type")
    limits: dict[str, int] = {"max_fields": MAX_FIELDS, "max_files": MAX_FILES, "max_part_size": MAX_TEXT_BYTES}
    try:
        async with aclosing(request.stream()) as stream:
            return await FormParser(request.headers, stream, **limits).parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "The caller left before the end of the body.") from error
    except OSError as error:  # of the temporary files
        logger.error("spool_full", extra={"error": errno.errorcode.get(error.errno or 0, type(error).__name__)})
        raise SpoolFull("The upload cannot be kept while it arrives. Send it again.", RETRY_AFTER_S) from error


class FormParser(MultiPartParser):
    """Starlette's parser, without its guesses.

    It takes the end of the body for the end of the form, text in any encoding for UTF-8 or Latin-1, the last of two
    headers for the only one, and what a field is from whether a filename is there.
    """

    ended = False

    async def parse(self) -> FormData:
        form = await super().parse()
        if not self.ended:
            await form.close()
            raise MultiPartException("The body ends before its closing boundary: it was cut short.")
        return form

    def on_end(self) -> None:
        self.ended = True

    def on_headers_finished(self) -> None:
        part = self._current_part
        _check_headers(part)
        name = parse_options_header(part.content_disposition)[1].get(b"name", b"").decode("latin-1")
        if name in TEXTS:  # also where a browser's Blob or a client's file helper gave it a filename
            part.content_disposition = f'form-data; name="{name}"'.encode()
        super().on_headers_finished()
        _check_bytes_are_sent_as_they_are(part)
        if part.field_name in FILES and part.file is None:
            raise InvalidField(
                f'{part.field_name}: This field must be a file: give its part a filename, as in filename="photo.png" '
                f"(curl: -F {part.field_name}=@photo.png)."
            )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        if part.file is None and len(part.data) + end - start > self.max_part_size:
            check_names(FormData([(part.field_name, "")]))
            raise InvalidField(f"{part.field_name}: the text is longer than {self.max_part_size} bytes.")
        super().on_part_data(data, start, end)

    def on_part_end(self) -> None:
        part = self._current_part
        if part.field_name in TEXTS:
            self.items.append((part.field_name, _text(part, self._charset)))
        else:
            super().on_part_end()


def _check_headers(part: MultipartPart) -> None:
    """Raise MultiPartException where two headers, or two names in one, leave open what the part is."""
    names = [name for name, _ in part.item_headers]
    for name in SINGLE:
        if names.count(name) > 1:
            raise MultiPartException(f"A part has {names.count(name)} headers {name.decode().title()}. Send one.")
    if len(_NAME.findall(_QUOTED.sub(b"", part.content_disposition or b""))) > 1:
        raise MultiPartException('A part has several names in its Content-Disposition. Send one, as in name="prompt".')


def _check_bytes_are_sent_as_they_are(part: MultipartPart) -> None:
    encoding = _header(part, b"content-transfer-encoding").strip().lower()
    if encoding not in AS_THEY_ARE:
        raise InvalidField(
            f"{part.field_name[:100]}: Content-Transfer-Encoding {encoding[:100]!r} is not taken. "
            "Send the bytes as they are."
        )


def _text(part: MultipartPart, default_charset: str) -> str:
    """The text of a part by its Content-Type; of JSON that is a string or null, what that stands for."""
    kind, options = parse_options_header(_header(part, b"content-type"))
    is_json = kind == b"application/json"
    if kind and not is_json and not kind.startswith(b"text/"):
        raise InvalidField(
            f"{part.field_name}: this part is {kind[:100].decode('latin-1')!r}. Send it as text/plain, "
            "as application/json, or without a Content-Type."
        )
    charset = _charset(options, default_charset, part.field_name)
    try:
        text = bytes(part.data).decode(charset)
    except UnicodeDecodeError:
        raise InvalidField(f"{part.field_name}: the text is not {charset}. Send UTF-8.") from None
    return _from_json(text) if is_json else text


def _from_json(text: str) -> str:
    """The string that JSON holds, or "" for null; all else as it is (some clients send strings without quotes)."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str) else "" if value is None else text


def _charset(options: dict[bytes, bytes], default: str, what: str) -> str:
    """Python's name of the charset that a Content-Type names. Raises InvalidField for one that is not taken."""
    if b"charset" not in options:
        return default
    named = options[b"charset"].decode("latin-1").strip().lower()
    if named not in CHARSETS:
        raise InvalidField(f"{what}: the charset {named[:100]!r} is not taken. Send UTF-8.")
    return CHARSETS[named]


def _header(part: MultipartPart, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in part.item_headers if name == wanted), "")
