"""The lines of a batch: each a JSON request with a ``custom_id``; all are checked before any is taken."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from fastapi.exceptions import HTTPException
from pydantic import ValidationError

from app.backend import Backend
from app.inpaint_form import INPAINT, InpaintForm, InpaintJson
from app.json_bodies import not_taken, parsed
from app.outgoing import deliveries
from app.selections import plain
from jobs.custom_ids import fault_of
from jobs.errors import InfillError, InvalidField
from jobs.field_sentences import sentence_of

MOST_LINE_BYTES = 16 * 2**20
CHUNK_BYTES = 2**20
SHOWN_FAULTS = 10


@dataclass(frozen=True)
class CheckedLines:
    """How many lines a file has, and the number of the first line of each chunk; a digest of all its bytes."""

    total: int
    chunks: list[int]
    digest: str


def check_lines(backend: Backend, file: BinaryIO) -> CheckedLines:
    """Check every line as far as that goes without its pictures.

    Raises InvalidField, which names the first lines that cannot be taken, and why.
    """
    digest, faults, names = hashlib.sha256(), list[str](), dict[str, int]()
    wrong = total = 0
    chunks: list[int] = []
    for first, chunk in chunks_of(file, backend.settings.batch_lines):
        chunks.append(first)
        for number, text in chunk:
            digest.update(text + b"\n")
            total += 1
            if fault := _fault(backend, number, text, names):
                wrong += 1
                faults += [f"line {number}: {fault}"] if wrong <= SHOWN_FAULTS else []
    if wrong:
        more = f" And {wrong - SHOWN_FAULTS} more." if wrong > SHOWN_FAULTS else ""
        raise InvalidField(f"{wrong} of the lines cannot be taken, so none was. {' '.join(faults)}{more}")
    if not total:
        raise InvalidField("The batch has no lines. Each is JSON: a custom_id, and the fields of POST /v1/inpaint.")
    return CheckedLines(total, chunks, digest.hexdigest())


def chunks_of(file: BinaryIO, most: int) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    """The lines that are not blank, with their numbers in the file, about CHUNK_BYTES at a time.

    Before each chunk: how many such lines came before it. Raises InvalidField for more than ``most`` lines, blank ones
    included, and for one that is too long.
    """
    file.seek(0)
    before, size, chunk = 0, 0, list[tuple[int, bytes]]()
    number = 0
    while text := file.readline(MOST_LINE_BYTES + 2):
        number += 1
        if number > most:
            raise InvalidField(f"The batch has more than {most} lines; blank ones count. Send several batches.")
        if len(text.rstrip(b"\r\n")) > MOST_LINE_BYTES:
            raise InvalidField(
                f"line {number}: it is longer than {MOST_LINE_BYTES} bytes. Send image_url in place of large pictures."
            )
        if not (text := text.strip(b" \t\r\n")):
            continue
        chunk.append((number, text))
        size += len(text)
        if size >= CHUNK_BYTES:
            yield before, chunk
            before, size, chunk = before + len(chunk), 0, []
    if chunk:
        yield before, chunk


def _fault(backend: Backend, number: int, text: bytes, names: dict[str, int]) -> str | None:
    """What is wrong with a line, as a sentence. ``names``: of the lines before, and their numbers."""
    try:
        custom_id, fields = read_line(text)
        other = names.setdefault(custom_id.lower(), number)
        if other != number:
            return f"custom_id: {custom_id!r} is taken by line {other}."
        _check_fields(backend, fields)
    except InfillError as error:
        return str(error)
    return None


def read_line(text: bytes) -> tuple[str, dict[str, Any]]:
    """The ``custom_id``, and the fields that are there. Raises InvalidField."""
    try:
        value = parsed(text)
    except HTTPException as error:
        raise InvalidField(str(error.detail).replace("The body is", "it is")) from None
    if not isinstance(value, dict):
        raise InvalidField("it is JSON, but not an object with the fields as its names.")
    custom_id = value.pop("custom_id", None)
    if fault := fault_of(custom_id):
        raise InvalidField(fault)
    return custom_id, {name: each for name, each in value.items() if each is not None and each != ""}


def _check_fields(backend: Backend, fields: dict[str, Any]) -> None:
    """Raises the RequestErrors that a submission would, for all but pictures and what workers know."""
    INPAINT.check_names([*fields])
    if fields.get("priority", "low") != "low":
        raise InvalidField("priority: lines of a batch are of low priority. Leave it out.")
    if "on_disconnect" in fields:
        raise InvalidField("on_disconnect: nobody waits for a line of a batch. Leave it out.")
    asked = validated(InpaintJson, json.dumps(fields))
    for name in ("image", "mask"):
        if getattr(asked, name) and getattr(asked, f"{name}_url"):
            raise InvalidField(f"{name}, {name}_url: send one of them.")
        if url := getattr(asked, f"{name}_url"):
            backend.fetches.target(url, f"{name}_url")
    if not (asked.image or asked.image_url):
        raise InvalidField("image: This field is missing. Send image, in base64, or image_url.")
    backend.catalog.resolve(plain(asked))
    deliveries(backend.settings, asked.output_url, asked.webhook_url, asked.n)


def validated(model: type[InpaintJson], text: str) -> InpaintJson:
    """Raises InvalidField."""
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _named(error) from None


def form_from(values: dict[str, Any]) -> InpaintForm:
    """The form whose fields these are, texts and files. Raises InvalidField."""
    try:
        return InpaintForm.model_validate(values)
    except ValidationError as error:
        raise _named(error) from None


def _named(error: ValidationError) -> InvalidField:
    fault = error.errors(include_url=False, include_input=False)[0]
    if fault["type"] == "json_invalid":
        return not_taken(fault)
    place = ".".join(str(part) for part in fault["loc"]) or "it"
    return InvalidField(f"{place[:100]}: {sentence_of(fault)}")
