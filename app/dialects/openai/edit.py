"""A request of OpenAI's ``/images/edits``: its fields as they were sent, checked, and as a request of our own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar

import anyio.to_thread
from fastapi import Request
from fastapi.exceptions import HTTPException
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from app import extension
from app.backend import Backend
from app.base64_files import file_of
from app.content_types import JSON, check_kind
from app.forms import LenientParser, read_form
from app.json_bodies import JsonBody, parsed, read_json
from app.uploads import Size
from jobs.catalog import Catalog
from jobs.errors import InvalidField
from jobs.feedforward import unused_fields
from jobs.field_sentences import sentence_of
from jobs.schema import INPUTS, InpaintRequest, InputName, OutputFormat

FORMATS: tuple[OutputFormat, ...] = ("png", "jpeg", "webp")
OWN = {"model", "prompt", "n", "size", "response_format", "output_format", "stream"}
JSON_FIELDS = ("loras", "mask_box", "mask_points", "mask_polygon")
"""Native fields that hold lists, which a form has as JSON."""
FIELDS: dict[InputName, str] = {"image": "images", "mask": "mask"}
"""Of a JSON body."""
PARTIAL_IMAGES = ("0", "1", "2", "3")
NATIVE = set(InpaintRequest.model_fields) - {
    *("model", "prompt", "n", "output_format", "output_quality"),
    *extension.FIELDS,
}


@dataclass
class Edit:
    """A request, its fields as they were sent: text, or whatever JSON holds."""

    fields: dict[str, Any]
    images: list[BinaryIO]
    masks: list[BinaryIO]
    addresses: Mapping[InputName, Sequence[str]] = field(default_factory=dict)
    """Where pictures are that are not fetched yet."""
    ignored: set[str] = field(default_factory=set)

    ONE: ClassVar[str] = "Send a single one; this model takes no further reference images."

    def __post_init__(self) -> None:
        """What is null or empty counts as absent: some clients send every field that there is."""
        self.fields = {name: value for name, value in self.fields.items() if value not in (None, "")}

    def text(self, name: str, default: str) -> str:
        """A field of OpenAI's own; JSON may hold anything."""
        return str(self.fields.get(name, default))

    def check(self) -> None:
        """Raise InvalidField for what cannot be honoured; note what has no meaning here."""
        for name in INPUTS:
            if (count := self.count(name)) > 1:
                raise InvalidField(f"{name}: {count} files were sent. {self.ONE}")
        if not self.count("image"):
            raise InvalidField("image: This field is missing. Send the photo as a file.")
        if self.text("background", "auto") == "transparent":
            raise InvalidField("background: the result is as opaque as the photo. Send opaque, or auto.")
        if self.text("task", "fill") == "extend":
            raise InvalidField("task: a photo is extended by transparent borders of its own, or by POST /v1/inpaint.")
        if self.kind not in FORMATS:
            raise InvalidField(f"output_format: one of {', '.join(FORMATS)}.")
        if self.text("response_format", "b64_json") not in ("b64_json", "url"):
            raise InvalidField("response_format: b64_json or url.")
        if self.wants_addresses and self.streams:
            raise InvalidField("response_format: a stream sends pictures, not addresses. Send b64_json, or no stream.")
        used = ({"output_compression"} if self.kind != "png" else set()) | (
            {"partial_images"} if self.streams else set()
        )
        self.ignored |= self.fields.keys() - OWN - NATIVE - used

    def files(self, name: InputName) -> list[BinaryIO]:
        return self.images if name == "image" else self.masks

    def count(self, name: InputName) -> int:
        """Of the pictures that were sent or named."""
        return len(self.files(name)) + len(self.addresses.get(name, ()))

    @property
    def kind(self) -> str:
        """Of file: the output format."""
        return self.text("output_format", "png")

    @property
    def wants_addresses(self) -> bool:
        """Whether the answer is to have addresses of the images in place of base64."""
        return self.text("response_format", "b64_json") == "url"

    @property
    def streams(self) -> bool:
        """Whether the answer is to be a stream of events. Raises InvalidField."""
        text = self.text("stream", "false").lower()
        if text not in ("true", "1", "false", "0"):
            raise InvalidField("stream: true or false.")
        return text in ("true", "1")

    @property
    def partial_images(self) -> int:
        """How many previews a stream is to send at most; 0 without one. Raises InvalidField."""
        text = self.text("partial_images", "0") if self.streams else "0"
        if text not in PARTIAL_IMAGES:
            raise InvalidField("partial_images: a whole number from 0 to 3.")
        return int(text)

    @property
    def size(self) -> Size | None:
        """The size asked for; None for the image's own. Raises InvalidField."""
        text = self.text("size", "auto")
        if text == "auto":
            return None
        if not (found := re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)):
            raise InvalidField("size: auto, or WIDTHxHEIGHT in pixels.")
        return int(found[1]), int(found[2])

    @property
    def has_shapes(self) -> bool:
        """Fields that are the mask without a file, so that it is not the image's own transparency."""
        names = ("mask_box", "mask_points", "mask_polygon", "mask_subject", "mask_prompt")
        sent = any(self.fields.get(name, []) not in ("[]", []) for name in names)
        return sent or self.fields.get("task") == "replace_background"

    @property
    def quality(self) -> int:
        """Of a lossy format, 0 to 100. Raises InvalidField."""
        text = self.text("output_compression", "100") if self.kind != "png" else "100"
        if not re.fullmatch(r"[0-9]{1,2}|100", text):
            raise InvalidField("output_compression: a whole number from 0 to 100.")
        return int(text)

    def request(self, backend: Backend) -> InpaintRequest:
        """Raises InvalidField, with the field's name."""
        asked = {name: value for name, value in self.fields.items() if name in NATIVE}
        asked |= {name: _json(name, text) for name in JSON_FIELDS if isinstance(text := asked.get(name), str)}
        asked |= {"prompt": self.fields.get("prompt", ""), "n": self.fields.get("n", 1)}
        if self.kind != "png":
            asked |= {"output_format": self.kind, "output_quality": max(1, self.quality)}  # encoders take 0 for 1
        if self.count("mask") or not self.has_shapes:
            asked.setdefault("mask_mode", "auto" if self.count("mask") else "alpha")
        if "model" in self.fields:
            asked["model"] = backend.catalog.resolve_alias(self.text("model", ""))
        try:
            request = InpaintRequest.model_validate(asked)
            return self._without_unused_prompt(request, backend.catalog)
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidField(f"{first['loc'][0] if first['loc'] else 'body'}: {sentence_of(first)}") from None

    def _without_unused_prompt(self, request: InpaintRequest, catalog: Catalog) -> InpaintRequest:
        """These clients always send a prompt: for a model that has no use for one it is ignored."""
        entry = catalog.models.get(catalog.model_for(request.model, request.task))
        if not (request.prompt and entry and "prompt" in unused_fields(entry)):
            return request
        self.ignored.add("prompt")
        return request.model_copy(update={"prompt": ""})


# ---- reading


async def read_edit(request: Request) -> Edit:
    """A form, or JSON with data URLs or addresses; its files are closed with the request.

    Raises InvalidField and what ``read_form`` and ``read_json`` do.
    """
    if check_kind(request) != JSON:
        request._form = await read_form(request, LenientParser)
        return _from_form(request._form)
    body = await read_json(request)
    try:
        edit = await anyio.to_thread.run_sync(_from_json, body)
    finally:
        await body.close()
    request._form = FormData([("file", UploadFile(file)) for file in (*edit.images, *edit.masks)])
    return edit


async def fetch(request: Request, backend: Backend, caller: str, edit: Edit) -> None:
    """Get the pictures of which only addresses were sent; they are closed with the request, too.

    Raises what ``Fetches.fetch`` does.
    """
    limits = {"image": backend.settings.max_image_bytes, "mask": backend.settings.max_mask_bytes}
    for name, addresses in edit.addresses.items():
        for url in addresses:
            place = (FIELDS[name], limits[name], caller, request.state.body)
            file = await backend.fetches.fetch(url, *place)
            request._form = FormData([*(await request.form()).multi_items(), ("file", UploadFile(file))])
            edit.files(name).append(file)
    edit.addresses = {}


def _from_form(form: FormData) -> Edit:
    """Text under the names of files is left aside: some clients send both."""
    parts = [(name.removesuffix("[]"), value) for name, value in form.multi_items()]
    files = {
        name: [value.file for named, value in parts if named == name and isinstance(value, UploadFile)]
        for name in ("image", "mask")
    }
    fields = {name: value for name, value in parts if isinstance(value, str) and name not in files}
    return Edit(fields, files["image"], files["mask"])


def _from_json(body: JsonBody) -> Edit:
    fields = body.value
    if not isinstance(fields, dict):
        raise InvalidField("body: a JSON object with images, prompt and mask.")
    images, masks = taken_pictures(fields)
    body.check_texts([*images, *masks])
    return Edit(
        fields,
        [file_of(body, FIELDS["image"], text).file for text in images if not is_address(text)],
        [file_of(body, FIELDS["mask"], text).file for text in masks if not is_address(text)],
        {"image": [*filter(is_address, images)], "mask": [*filter(is_address, masks)]},
    )


def taken_pictures(fields: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The images and masks of a JSON body, which then has them no more. Raises InvalidField."""
    found = fields.pop("images", None) or fields.pop("image", None) or []
    mask = fields.pop("mask", None)
    images = [_text(FIELDS["image"], one) for one in (found if isinstance(found, list) else [found])]
    return images, [_text("mask", mask)] if mask else []


def is_address(text: str) -> bool:
    return re.match(r"https?://", text, re.IGNORECASE) is not None


def _text(name: str, reference: object) -> str:
    """Base64, a data URL or an address, by itself or as ``image_url``. Raises InvalidField."""
    text = reference.get("image_url") if isinstance(reference, dict) else reference
    if not isinstance(text, str):
        raise InvalidField(f"{name}: send each picture as image_url: https://..., or data:image/png;base64,...")
    return text


def _json(name: str, text: str) -> Any:
    try:
        return parsed(text)
    except HTTPException:
        raise InvalidField(f"{name}: this is not JSON.") from None
