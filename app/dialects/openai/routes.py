"""OpenAI's ``POST /v1/images/edits``, for the clients that speak it: their fields, their errors, base64 results.

Fields that have no meaning here are ignored and named in ``Infill-Ignored``. Beside OpenAI's own, every field of the
native API is taken (``seed``, ``num_inference_steps``, ``strength``, ``loras`` as a JSON string, ...).
"""

import io
import json
import re
from typing import BinaryIO

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.authentication import Caller, needs
from app.backend import Backend, BackendDep
from app.dialects.openai.edit import Edit, fetch, read_edit
from app.dialects.openai.results import Resized, Results, ended
from app.dialects.openai.stream import EditStream
from app.problems import Problem
from app.responses import left_response
from app.submission import Submission, Wait, submit_and_wait
from app.submission_route import SubmissionRoute
from jobs.errors import DoubtfulMask, EmptyMask, InvalidField, InvalidMask
from jobs.queue import Submitted
from jobs.schema import InputName

SHAPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
ASPECT_TOLERANCE = 0.01
MASK_ADVICE = "mask: this model needs to know what to repaint. Send a mask, or an image with transparent pixels."


class OpenAIRoute(SubmissionRoute):
    """Errors as ``{"error": {"message", "type", "param", "code"}}``; the key is checked before the body is read."""

    @staticmethod
    def render(problem: Problem, headers: dict[str, str]) -> Response:  # type: ignore[override]  # a ClassVar there
        status = 400 if problem.status in (406, 413, 415, 422) else problem.status
        named = re.match(r"([a-z_\[\]]+)(?:, [a-z_]+)*: ", problem.detail)
        param = problem.errors[0].field if problem.errors else named and named.group(1)
        kind = SHAPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        if status >= 500 and "Retry-After" not in headers:
            headers = headers | {"x-should-retry": "false"}  # its SDKs would submit the same job again
        error = {"message": problem.detail, "type": kind, "param": param, "code": problem.code}
        return JSONResponse({"error": error}, status, headers)


ADDRESSES = ("/v1/images/edits", "/images/edits", "/openai/deployments/{model}/images/edits")


def make_router(max_body_bytes: int) -> APIRouter:
    """The body limit comes from the settings, hence a function."""
    router = APIRouter(route_class=OpenAIRoute, include_in_schema=False, dependencies=[needs("submit")])
    for address in ADDRESSES:
        router.add_api_route(address, edits, methods=["POST"], max_body_size=max_body_bytes)
    return router


async def edits(request: Request, backend: BackendDep, caller: Caller, model: str | None = None) -> Response:
    """Edit a photo where its mask, or its own transparency, asks for it."""
    edit = await read_edit(request)
    if model is not None:
        edit.fields["model"] = model
    try:
        return await _answer(request, backend, caller, edit)
    finally:
        await request.close()


async def _answer(request: Request, backend: Backend, caller: str, edit: Edit) -> Response:
    edit.check()
    asked, quality, partial_images = edit.request(backend), edit.quality, edit.partial_images
    await fetch(request, backend, caller, edit)
    resized, is_made_so = await _check_size(backend, edit)
    if not is_made_so:
        if asked.bit_depth == "keep":
            raise InvalidField("bit_depth, size: a result of another size is made in 8 bits. Send one of them.")
        asked = asked.model_copy(update={"output_format": "png", "output_quality": None})
    files: dict[InputName, BinaryIO] = {"image": edit.images[0]}
    if edit.masks:
        files["mask"] = edit.masks[0]
    elif not edit.has_shapes:
        files["mask"] = io.BytesIO(await anyio.to_thread.run_sync(_copy, edit.images[0]))
    given = json.loads(asked.model_dump_json(exclude_unset=True))
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 255:
        raise InvalidField("Idempotency-Key: 1 to 255 characters.")

    async def accepted(submitted: Submitted) -> None:
        request.state.job_id = submitted.job_id
        await request.close()
        request.state.body.release()

    wait = None if edit.streams else Wait(backend.settings.max_wait_s, request.is_disconnected, "cancel")
    try:
        submission = Submission(asked, files, caller, given, key, request_id=request.state.request_id)
        answer = await submit_and_wait(backend, submission, wait, accepted)
    except (InvalidMask, EmptyMask, DoubtfulMask):
        if edit.masks:
            raise
        raise EmptyMask(MASK_ADVICE) from None
    if answer.view is None:
        return left_response()
    origin = f"{request.url.scheme}://{request.url.netloc}"
    results = Results(backend, answer.view, edit, resized, quality, is_made_so, origin)
    if edit.streams:
        return EditStream(request, results, partial_images).response()
    ended(answer.view)
    return JSONResponse(await anyio.to_thread.run_sync(results.body), headers=results.headers)


async def _check_size(backend: Backend, edit: Edit) -> tuple[Resized | None, bool]:
    """The image's size and the one that results are to have, None where they are the same; and whether a job makes
    results of that size in that format. One of an image with transparency makes no JPEG.

    Raises InvalidField for one of another shape.
    """
    if (wanted := edit.size) is None and edit.kind != "jpeg":
        return None, True
    async with backend.decoders.turn():
        data = await anyio.to_thread.run_sync(_copy, edit.images[0])
        photo = await backend.decoders.image(data)
        width, height = photo.size
    if wanted is None or (width, height) == wanted:
        return None, not (edit.kind == "jpeg" and photo.alpha)
    if abs(wanted[0] * height / (wanted[1] * width) - 1) > ASPECT_TOLERANCE:
        raise InvalidField(
            f"size: the image is {width}x{height}, and an edit keeps its shape. Send size=auto, or one of that shape."
        )
    if wanted[0] * wanted[1] > backend.settings.max_pixels:
        raise InvalidField(f"size: at most {backend.settings.max_pixels} pixels.")
    return Resized((width, height), wanted), False


def _copy(file: BinaryIO) -> bytes:
    file.seek(0)
    data = file.read()
    file.seek(0)
    return data
