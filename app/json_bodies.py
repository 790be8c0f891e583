"""A JSON body, read as it arrives: its long texts go to files at once, so that no picture in base64 is held in memory.

What is left, with a name in place of each long text, is small and parsed as usual.
"""

import json
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import Any, NoReturn

import anyio.to_thread
from fastapi import Request
from fastapi.exceptions import HTTPException
from starlette.datastructures import UploadFile

from app.bodies import arriving, discard
from jobs.errors import InvalidField

MAX_TEXT_BYTES = 65_536
"""Of a text that stays in memory, as the body has it. Longer ones go to files."""
MAX_LONG_TEXTS = 10
MAX_REST_BYTES = 2**20
"""Of the body, without its long texts."""
MAX_DIGITS = 400
"""Of a whole number."""

_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
"""Of a string, up to its closing quote, or to a backslash whose next byte has not arrived."""


@dataclass
class JsonBody:
    """``value``: as ``json.loads`` has it. ``long_texts``: the name that stands in it for a long text -> its bytes."""

    value: Any
    long_texts: dict[str, UploadFile] = field(default_factory=dict)

    def check_texts(self, pictures: Iterable[object]) -> None:
        """Raise InvalidField where a long text is none of these."""
        if self.long_texts.keys() - {text for text in pictures if isinstance(text, str)}:
            raise InvalidField(f"A text beside the pictures is longer than {MAX_TEXT_BYTES} bytes.")

    async def close(self) -> None:
        for file in self.long_texts.values():
            await anyio.to_thread.run_sync(discard, file.file)


async def read_json(request: Request) -> JsonBody:
    """Raises HTTPException 400 for what is not JSON, InvalidField, SpoolFull, and what a ``Body`` raises."""
    body = JsonBody(None)
    try:
        with arriving():
            async with aclosing(request.stream()) as stream:
                splitter = _Splitter(body.long_texts)
                async for data in stream:
                    await splitter.feed(data)
        body.value = await anyio.to_thread.run_sync(parsed, bytes(splitter.rest))
    except BaseException:
        with anyio.CancelScope(shield=True):
            await body.close()
        raise
    return body


class _Splitter:
    """Moves long strings out of JSON text; looks at nothing but where strings begin and end."""

    def __init__(self, long_texts: dict[str, UploadFile]) -> None:
        self.rest = bytearray()
        self._long_texts = long_texts
        self._prefix = f"long text {secrets.token_hex(16)}-"
        self._inside = self._escaping = False
        self._text = bytearray()
        self._file: UploadFile | None = None

    async def feed(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            at = await self._text_from(data, at) if self._inside else self._between(data, at)
            if len(self.rest) > MAX_REST_BYTES:
                raise InvalidField(f"The body: without its pictures it is longer than {MAX_REST_BYTES} bytes.")

    def _between(self, data: bytes, at: int) -> int:
        quote = data.find(b'"', at)
        self._inside = quote >= 0
        end = quote + 1 if self._inside else len(data)
        self.rest += data[at:end]
        return end

    async def _text_from(self, data: bytes, at: int) -> int:
        start = at
        if self._escaping:
            at, self._escaping = at + 1, False
        found = _TEXT.match(data, at)
        at = found.end() if found else at
        if data[at : at + 1] == b"\\":  # the last byte so far
            self._escaping, at = True, at + 1
        await self._keep(data[start:at])
        if at < len(data) and not self._escaping:
            self._end()
            at += 1
        return at

    async def _keep(self, text: bytes) -> None:
        if self._file is None and len(self._text) + len(text) <= MAX_TEXT_BYTES:
            self._text += text
            return
        if self._file is None:
            if len(self._long_texts) == MAX_LONG_TEXTS:
                raise InvalidField(f"The body has more than {MAX_LONG_TEXTS} texts of over {MAX_TEXT_BYTES} bytes.")
            self._file = UploadFile(await anyio.to_thread.run_sync(TemporaryFile))
            self._long_texts[f"{self._prefix}{len(self._long_texts)}"] = self._file
            await self._file.write(bytes(self._text))
        await self._file.write(text)

    def _end(self) -> None:
        self.rest += self._text if self._file is None else [*self._long_texts][-1].encode()
        self.rest += b'"'
        self._text.clear()
        self._inside, self._file = False, None


def parsed(text: bytes | str) -> Any:
    """The value of JSON text. Raises HTTPException 400, or InvalidField for a name that comes twice in an object."""
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(text, object_pairs_hook=_each_once, parse_int=_whole, parse_constant=_refuse)
    except UnicodeDecodeError:
        raise HTTPException(400, "The body is not UTF-8.") from None
    except RecursionError:
        raise HTTPException(400, "The JSON is nested too deeply.") from None
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise HTTPException(400, f"The body is not JSON{where}.") from None


def not_taken(fault: Mapping[str, Any]) -> InvalidField:
    """For a ``json_invalid`` of pydantic's about a value that ``parsed`` has taken."""
    if "recursion" in fault["msg"]:
        return InvalidField("A list or an object is nested too deeply.")
    return InvalidField("A text has half of a character: a surrogate without its pair.")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    found = dict(pairs)
    if len(found) < len(names):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise InvalidField(f"{', '.join(twice)[:100]}: sent more than once. Send each field once.")
    return found


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise InvalidField("A number in the body has too many digits.")
    return int(digits)


def _refuse(constant: str) -> NoReturn:
    raise InvalidField(f"{constant}: JSON has no such number.")
