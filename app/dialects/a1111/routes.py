"""The addresses below ``/sdapi/v1`` and beside it, each with and without a slash at its end."""

from collections.abc import Callable
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from app.authentication import Caller, needs
from app.backend import BackendDep
from app.base64_files import file_of
from app.dialects.a1111.callers_choice import CallersChoice
from app.dialects.a1111.fields import model_of
from app.dialects.a1111.img2img import img2img
from app.dialects.a1111.infotext import KEYWORD, parsed
from app.dialects.a1111.lists import LISTS, ROOT, Listing
from app.dialects.a1111.own_job import interrupt, progress
from app.dialects.a1111.route import A1111Route, Img2ImgRoute, json_object
from app.json_bodies import JsonBody
from app.uploads import read_file
from jobs import png_chunks
from jobs.api_keys import Scope
from jobs.errors import InvalidField, InvalidImage

MAX_OPTIONS_BYTES = 2**18
MAX_TEXT_CHARACTERS = 65_536
"""Of a PNG's text; this service writes at most some 10,000."""

NOTHING = ("refresh-checkpoints", "refresh-vae", "refresh-loras", "unload-checkpoint", "reload-checkpoint")
"""Addresses at which there is nothing to do."""


def make_router(max_body_bytes: int) -> APIRouter:
    """``max_body_bytes``: of a call with pictures in it."""
    router = APIRouter(include_in_schema=False)

    def add(
        address: str,
        endpoint: Callable[..., Any],
        method: str,
        scope: Scope,
        most: int = MAX_OPTIONS_BYTES,
        kind: type[A1111Route] = A1111Route,
    ) -> None:
        for path in (address, f"{address}/"):
            router.add_api_route(
                path,
                endpoint,
                methods=[method],
                dependencies=[needs(scope)],
                max_body_size=most,
                response_model=None,
                route_class_override=kind,
            )

    add(f"{ROOT}/img2img", img2img, "POST", "submit", max_body_bytes, Img2ImgRoute)
    add(f"{ROOT}/txt2img", txt2img, "POST", "submit", kind=Img2ImgRoute)
    add(f"{ROOT}/png-info", png_info, "POST", "read", max_body_bytes)
    add(f"{ROOT}/progress", progress, "GET", "read")
    add(f"{ROOT}/options", options, "GET", "read")
    add(f"{ROOT}/options", set_options, "POST", "submit")
    for name in ("interrupt", "skip"):
        add(f"{ROOT}/{name}", interrupt, "POST", "submit")
    for name in NOTHING:
        add(f"{ROOT}/{name}", nothing, "POST", "submit")
    for address, listing in LISTS.items():
        add(address, _answering(listing), "GET", "read")
    return router


def _answering(listing: Listing) -> Callable[[BackendDep], Any]:
    def answer(backend: BackendDep) -> Any:
        return listing(backend)

    return answer


def options(backend: BackendDep, caller: Caller) -> dict[str, Any]:
    """The settings that clients read; the model is the caller's own choice."""
    chosen = CallersChoice(backend.queue.connection, caller).model()
    model = chosen if chosen in backend.catalog.models else backend.catalog.default
    return {
        "sd_model_checkpoint": model,
        "sd_checkpoint_hash": "",
        "sd_vae": "Automatic",
        "CLIP_stop_at_last_layers": 1,
        "samples_format": "png",
        "inpainting_mask_weight": 1.0,
        "img2img_color_correction": False,
        "live_previews_enable": True,
    }


async def set_options(request: Request, backend: BackendDep, caller: Caller) -> None:
    """Only ``sd_model_checkpoint`` acts, and for this caller alone. Raises UnknownModel, InvalidField."""
    async with json_object(request) as body:
        title = body.value.get("sd_model_checkpoint")
    if title:
        model = model_of(backend.catalog, title)
        await anyio.to_thread.run_sync(CallersChoice(backend.queue.connection, caller).choose, model)


def nothing() -> Response:
    return Response("null", media_type="application/json")


def txt2img() -> None:
    """Raises InvalidField."""
    raise InvalidField(
        "txt2img: this service repaints parts of photos. Use /sdapi/v1/img2img with init_images and mask."
    )


async def png_info(request: Request, backend: BackendDep) -> dict[str, Any]:
    """The text that img2img wrote into a PNG. Raises InvalidField, InvalidImage, TooLarge."""
    async with json_object(request) as body:
        text = await anyio.to_thread.run_sync(_text_in, body, backend.settings.max_image_bytes)
    return {"info": text, "items": {"parameters": text} if text else {}, "parameters": parsed(text)}


def _text_in(body: JsonBody, max_bytes: int) -> str:
    picture = body.value.get("image")
    if not isinstance(picture, str):
        raise InvalidField("image: send a picture's bytes in base64, alone or as a data URL.")
    with file_of(body, "image", picture).file as file:
        data = read_file(file, max_bytes, "image")
    try:
        text = (png_chunks.text_of(data, KEYWORD) if png_chunks.is_png(data) else None) or ""
    except png_chunks.MalformedPng as error:
        raise InvalidImage(f"image: {error}") from None
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidImage(f"image: its text is longer than the {MAX_TEXT_CHARACTERS} characters that are allowed.")
    return text
