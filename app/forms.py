"""The multipart body of a submission, read whole; each part as its own headers describe it (RFC 7578)."""

import json
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any, ClassVar, cast

from fastapi import Depends, Request, Response
from fastapi.exceptions import HTTPException
from fastapi.params import Depends as DependsOn
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser, MultipartPart

from app.authentication import principal_of
from app.bodies import arriving
from app.content_types import CHARSETS, JSON, charset_of, check_kind, spellings
from app.form_fields import FormFields
from app.inpaint_form import INPAINT
from app.json_form import read_json_form
from app.submission_route import RenderedRoute, SubmissionRoute
from jobs.errors import InvalidField

MAX_FIELDS, MAX_FILES, MAX_TEXT_BYTES = 100, 10, 65_536

AS_THEY_ARE = {"", "7bit", "8bit", "binary"}
"""Transfer encodings that change no byte."""

SINGLE = (b"content-disposition", b"content-type", b"content-transfer-encoding")
"""Headers that a part may have once."""

STARLETTES = {
    "Missing boundary in multipart.": "Content-Type: it names no boundary. Send multipart/form-data; boundary=...",
    "Invalid multipart data.": "The body is not multipart/form-data with the boundary that its Content-Type names.",
}
"""Starlette's sentence -> one that names what is wrong and what is allowed."""


class FormRoute(RenderedRoute):
    """A route of which FastAPI finds the form already read; a JSON body as the form that it stands for."""

    parser: "ClassVar[type[FormParser]]"

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read_and_handle(request: Request) -> Response:
            (await principal_of(request)).check("submit")  # before the body is read
            check_query(request)
            if check_kind(request) == JSON:
                request._form = await read_json_form(request, self.parser.fields)
            else:
                request._form = await read_form(request, self.parser)
            return await handle(request)

        return read_and_handle


def known(fields: FormFields) -> DependsOn:
    """Before any field is read: the names in the form. Raises UnknownField, InvalidField."""

    async def check(request: Request) -> None:
        fields.check_names([name for name, _ in (await request.form()).multi_items()])

    return cast("DependsOn", Depends(check))


def check_query(request: Request) -> None:
    """Raise InvalidField for query parameters: nobody would read them."""
    if names := list(dict.fromkeys(request.query_params)):
        quoted = ", ".join(repr(name[:100]) for name in names[:10])
        raise InvalidField(f"{quoted}: sent in the address, which takes no query parameters. Send form fields.")


async def read_form(request: Request, parser: type["WholeParser"]) -> FormData:
    """All parts of a form.

    Raises HTTPException 400, UnsupportedCharset, InvalidField, UnknownField, SpoolFull, and what a ``Body`` raises.
    """
    limits: dict[str, int] = {"max_fields": MAX_FIELDS, "max_files": MAX_FILES, "max_part_size": MAX_TEXT_BYTES}
    try:
        with arriving():
            async with aclosing(request.stream()) as stream:
                return await parser(request.headers, stream, **limits).parse()
    except MultiPartException as error:
        raise HTTPException(400, STARLETTES.get(error.message, error.message)) from error


class WholeParser(MultiPartParser):
    """Starlette's parser, for which the end of the body is no end of the form."""

    ended = False

    async def parse(self) -> FormData:
        form = await super().parse()
        if not self.ended:
            await form.close()
            raise MultiPartException("The body ends before its closing boundary: it was cut short.")
        return form

    def on_end(self) -> None:
        self.ended = True


class LenientParser(WholeParser):
    """For dialects, whose clients send fields that nobody knows."""


class FormParser(WholeParser):
    """Starlette's parser, without its guesses.

    It takes the end of the body for the end of the form, text in any encoding for UTF-8 or Latin-1, the last of two
    headers for the only one, and what a field is from whether a filename is there.
    """

    fields: ClassVar[FormFields] = INPAINT

    def on_headers_finished(self) -> None:
        part = self._current_part
        _check_headers(part)
        name = parse_options_header(part.content_disposition)[1].get(b"name", b"").decode("latin-1")
        if name in self.fields.texts:  # also where a browser's Blob or a client's file helper gave it a filename
            part.content_disposition = f'form-data; name="{name}"'.encode()
        super().on_headers_finished()
        _check_bytes_are_sent_as_they_are(part)
        if part.field_name in self.fields.files and part.file is None:
            raise InvalidField(
                f'{part.field_name}: This field must be a file: give its part a filename, as in filename="photo.png" '
                f"(curl: -F {part.field_name}=@photo.png)."
            )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        if part.file is None and len(part.data) + end - start > self.max_part_size:
            self.fields.check_names([part.field_name])
            raise InvalidField(f"{part.field_name}: the text is longer than {self.max_part_size} bytes.")
        super().on_part_data(data, start, end)

    def on_part_end(self) -> None:
        part = self._current_part
        if part.field_name in self.fields.texts:
            self.items.append((part.field_name, _text(part)))
        else:
            super().on_part_end()


class InpaintRoute(FormRoute, SubmissionRoute):
    """Of ``POST /v1/inpaint``."""

    parser = FormParser


def _check_headers(part: MultipartPart) -> None:
    """Raise MultiPartException where two headers, or two names in one, leave open what the part is."""
    names = [name for name, _ in part.item_headers]
    for name in SINGLE:
        if names.count(name) > 1:
            raise MultiPartException(f"A part has {names.count(name)} headers {name.decode().title()}. Send one.")
    if len(spellings(part.content_disposition or b"", b"name")) > 1:
        raise MultiPartException('A part has several names in its Content-Disposition. Send one, as in name="prompt".')


def _check_bytes_are_sent_as_they_are(part: MultipartPart) -> None:
    encoding = _header(part, b"content-transfer-encoding").strip().lower()
    if encoding not in AS_THEY_ARE:
        raise InvalidField(
            f"{part.field_name[:100]}: Content-Transfer-Encoding {encoding[:100]!r} is not taken. "
            "Send the bytes as they are."
        )


def _text(part: MultipartPart) -> str:
    """The text of a part by its Content-Type; of JSON that is a string or null, what that stands for."""
    described = _header(part, b"content-type")
    kind, _ = parse_options_header(described)
    is_json = kind == b"application/json"
    if kind and not is_json and not kind.startswith(b"text/"):
        raise InvalidField(
            f"{part.field_name}: this part is {kind[:100].decode('latin-1')!r}. Send it as text/plain, "
            "as application/json, or without a Content-Type."
        )
    charset = charset_of(described, CHARSETS, part.field_name)
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


def _header(part: MultipartPart, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in part.item_headers if name == wanted), "")
