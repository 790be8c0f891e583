"""A JSON body -> the form that it stands for."""

import json
from typing import Any

import anyio.to_thread
from fastapi import Request
from fastapi.exceptions import HTTPException, RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData

from app.base64_files import file_of
from app.bodies import discard
from app.form_fields import FormFields
from app.json_bodies import JsonBody, not_taken, read_json


async def read_json_form(request: Request, known: FormFields) -> FormData:
    """A form of the same fields.

    Raises RequestValidationError, UnknownField, InvalidField, HTTPException 400, and what ``read_json`` does.
    """
    body = await read_json(request)
    try:
        return await anyio.to_thread.run_sync(form_of, body, known)
    finally:
        with anyio.CancelScope(shield=True):
            await body.close()


def form_of(body: JsonBody, known: FormFields) -> FormData:
    """A form of the same fields; its files are the caller's to close. Raises what ``read_json_form`` does."""
    if not isinstance(body.value, dict):
        raise HTTPException(400, "The body is JSON, but not an object with the fields as its names.")
    fields = {name: value for name, value in body.value.items() if value is not None and value != ""}
    known.check_names([*body.value])
    body.check_texts(fields.get(name) for name in known.files)
    _check_types(fields, known)
    form: dict[str, Any] = {}
    try:
        for name, value in fields.items():
            form[name] = file_of(body, name, value) if name in known.files else _text(value)
    except BaseException:
        for file in form.values():
            if not isinstance(file, str):
                discard(file.file)
        raise
    return FormData(form)


def _check_types(fields: dict[str, Any], known: FormFields) -> None:
    """Numbers are numbers and texts are texts. Raises RequestValidationError."""
    try:
        known.json.model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        if faults[0]["type"] == "json_invalid":
            raise not_taken(faults[0]) from None
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in faults]) from None


def _text(value: Any) -> str:
    """As a field of a form has it."""
    return value if isinstance(value, str) else json.dumps(value)
