"""``POST /v1/masks``: find a subject in a photo, and answer with its mask. Makes no job."""

import base64
from contextlib import ExitStack
from typing import Annotated, Any, BinaryIO

import anyio.to_thread
from fastapi import APIRouter, Form, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from app.authentication import Caller, needs
from app.backend import Backend, BackendDep
from app.examples import KEY_PROBLEMS, SCHEMAS, problems
from app.forms import FormParser, FormRoute, known
from app.inpaint_form import PICTURES
from app.mask_form import MASKS, MaskForm
from app.masks import DecodedMask
from app.negotiation import JSON, PNG, media_types_of
from app.selections import Selection, selection_of
from app.uploads import check_file, read_file
from jobs.errors import InvalidField
from jobs.mask_fields import MaskSubject
from jobs.schema import Record


class FoundMask(Record):
    """The mask of a subject."""

    mask: str = Field(description="A data URL of a grey PNG, white = to be repainted: it can be sent on as `mask`.")
    score: float = Field(description="How far it can be relied on, 0 to 1.")
    subject: MaskSubject = Field(description="What is white.")
    bbox: tuple[int, int, int, int] = Field(description="[left, top, right, bottom] of what is white, in pixels.")
    coverage: float = Field(description="Share of the picture that is white.")


class MaskParser(FormParser):
    fields = MASKS


class MaskRoute(FormRoute):
    parser = MaskParser


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The mask as a PNG, with `Infill-Mask-Score`, `Infill-Mask-Box` and `Infill-Coverage`; or, with "
        "`Accept: application/json`, as JSON.",
        "model": FoundMask,
        "content": {PNG: {"schema": {"type": "string", "format": "binary"}}},
    },
    **problems(
        "malformed_request",
        "unsupported_media_type",
        *KEY_PROBLEMS,
        "unsupported_charset",
        "unsupported_encoding",
        "request_timeout",
        "invalid_field",
        "unknown_field",
        "address_refused",
        "fetch_failed",
        "invalid_image",
        "doubtful_subject",
        "too_large",
        "not_acceptable",
        "decoders_busy",
        "spool_full",
        "too_many_uploads",
        "too_many_connections",
        "stopping",
    ),
}
BODIES: dict[str, Any] = {
    "multipart/form-data": {"encoding": {"image": {"contentType": PICTURES}}},
    JSON: {"schema": {"$ref": f"{SCHEMAS}/MaskJson"}},
}
Accept = Annotated[list[str] | None, Header(include_in_schema=False)]


def make_router(max_body_bytes: int) -> APIRouter:
    """The route's body limit comes from the settings, hence a function."""
    router = APIRouter(tags=["masks"], route_class=MaskRoute)
    router.add_api_route(
        "/v1/masks",
        masks,
        methods=["POST"],
        response_class=Response,
        responses=RESPONSES,
        summary="Find a subject's mask",
        max_body_size=max_body_bytes,
        openapi_extra={"requestBody": {"content": BODIES}},
        dependencies=[needs("submit"), known(MASKS)],
    )
    return router


async def masks(
    request: Request,
    *,
    backend: BackendDep,
    caller: Caller,
    form: Annotated[MaskForm, Form(media_type="multipart/form-data")],
    accept: Accept = None,
) -> Response:
    """Find the subject that lies in `mask_box`, or at `mask_points`, or in the whole photo; white is to be repainted.

    The answer can be sent on as `mask` of `POST /v1/inpaint`, which also takes the same fields itself.
    """
    media_types = media_types_of(", ".join(accept or []), (PNG, JSON))
    if not (form.mask_points or form.mask_box or form.mask_subject):
        raise InvalidField("mask_points, mask_box, mask_subject: send one of them at least.")
    selection, limit = selection_of(form), backend.settings.max_image_bytes
    with ExitStack() as fetched:
        place = (limit, caller, request.state.body)
        file = await backend.fetches.sent_or_fetched("image", form.image, form.image_url, fetched, *place)
        if file is None:
            raise InvalidField("image: This field is missing.")
        await anyio.to_thread.run_sync(check_file, file, limit, "image")
        mask = await _found(backend, file, selection, caller)
    return _as_json(mask) if media_types[0] == JSON else _as_png(mask)


async def _found(backend: Backend, file: BinaryIO, selection: Selection, caller: str) -> DecodedMask:
    """Raises DoubtfulSubject, InvalidField, InvalidImage, TooLarge, DecodersBusy."""
    async with backend.selections.place(caller), backend.decoders.turn():
        image = await anyio.to_thread.run_sync(read_file, file, backend.settings.max_image_bytes, "image")
        await backend.decoders.image(image)
        return await backend.decoders.subject(image, selection)


def _as_png(mask: DecodedMask) -> Response:
    report = mask.report
    headers = {
        "Infill-Mask-Score": f"{report.score:g}",
        "Infill-Mask-Box": ",".join(map(str, report.bbox)),
        "Infill-Coverage": f"{report.coverage:g}",
        "Content-Disposition": 'inline; filename="mask.png"',
        "Vary": "Accept",
    }
    return Response(mask.png, headers=headers, media_type=PNG)


def _as_json(mask: DecodedMask) -> Response:
    report = mask.report
    assert report.score is not None and report.subject is not None
    found = FoundMask(
        mask=f"data:{PNG};base64,{base64.b64encode(mask.png).decode()}",
        score=report.score,
        subject=report.subject,
        bbox=report.bbox,
        coverage=report.coverage,
    )
    return JSONResponse(found.model_dump(mode="json"), headers={"Vary": "Accept"})
