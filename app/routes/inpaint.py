"""``POST /v1/inpaint``: submit a job; wait for it if the caller prefers to."""

from contextlib import ExitStack
from typing import Annotated, Any, BinaryIO

import anyio
from fastapi import APIRouter, Form, Header, Request, Response

from app.authentication import Caller, needs
from app.backend import Backend, BackendDep
from app.examples import IMAGES, KEY_PROBLEMS, SCHEMAS, job_example, problems
from app.forms import InpaintRoute, known
from app.inpaint_form import FILES, INPAINT, PICTURES, InpaintForm
from app.negotiation import JSON, Prefer, media_types_of, wait_of
from app.outgoing import deliveries
from app.responses import image_response, job_response, left_response, still_running_response
from app.submission import Submission, Wait, submit_and_wait
from jobs.errors import InvalidField
from jobs.job_view import JobView
from jobs.outputs import MEDIA_TYPES
from jobs.queue import Submitted
from jobs.schema import INPUTS, InputName

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "With `Prefer: wait`: the job has ended. With `Accept: image/png`, or the type of another "
        "`output_format` that is asked for: its first image.",
        "model": JobView,
        "content": job_example("succeeded") | IMAGES,
    },
    202: {"description": "Accepted; `Location` is the job's address.", "content": job_example("queued")},
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
        "unknown_model",
        "unknown_lora",
        "invalid_lora",
        "lora_mismatch",
        "invalid_image",
        "invalid_mask",
        "mask_size_mismatch",
        "empty_mask",
        "doubtful_mask",
        "doubtful_subject",
        "no_surroundings",
        "idempotency_conflict",
        "too_large",
        "not_acceptable",
        "queue_full",
        "quota_exceeded",
        "store_full",
        "decoders_busy",
        "store_unavailable",
        "spool_full",
        "too_many_uploads",
        "too_many_connections",
        "stopping",
        "still_running",
    ),
}

BODIES: dict[str, Any] = {
    "multipart/form-data": {"encoding": {name: {"contentType": PICTURES} for name in sorted(FILES)}},
    "application/json": {"schema": {"$ref": f"{SCHEMAS}/InpaintJson"}},
}

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="A repeated call with the same key answers with the first job."),
]
Accept = Annotated[list[str] | None, Header(include_in_schema=False)]
"""In OpenAPI, this header is what the contents of the responses make of it: their parameters may not name it."""


def make_router(max_body_bytes: int) -> APIRouter:
    """The route's body limit comes from the settings, hence a function."""
    router = APIRouter(tags=["jobs"], route_class=InpaintRoute)
    router.add_api_route(
        "/v1/inpaint",
        inpaint,
        methods=["POST"],
        status_code=202,
        response_model=JobView,
        responses=RESPONSES,
        summary="Submit a photo and a mask",
        max_body_size=max_body_bytes,
        openapi_extra={"requestBody": {"content": BODIES}},
        dependencies=[needs("submit"), known(INPAINT)],
    )
    return router


async def inpaint(
    *,
    request: Request,
    backend: BackendDep,
    caller: Caller,
    form: Annotated[InpaintForm, Form(media_type="multipart/form-data")],
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    accept: Accept = None,
) -> Response:
    """Repaint what the mask marks. Every pixel where the effective mask is 0 stays as it was, byte for byte.

    `Accept: image/png` (with `output_format=jpeg` `image/jpeg`, and so on) alone waits as long as the service lets it,
    and is answered with the first image.
    """
    media_types = media_types_of(", ".join(accept or []), (JSON, MEDIA_TYPES[form.output_format]))
    longest_s = backend.settings.max_wait_s
    asked_s = wait_of(prefer or [], longest_s)
    wait_s = longest_s if asked_s is None and JSON not in media_types else asked_s
    if form.on_disconnect == "cancel" and wait_s is None:
        raise InvalidField("on_disconnect=cancel is for calls that wait: send it with Prefer: wait=30, or not at all.")
    sent = deliveries(backend.settings, form.output_url, form.webhook_url, form.n)
    wait = None if wait_s is None else Wait(wait_s, request.is_disconnected, form.on_disconnect)
    with ExitStack() as fetched:
        files = await _files(request, backend, form, caller, fetched)

        async def accepted(submitted: Submitted) -> None:
            request.state.job_id = submitted.job_id
            fetched.close()
            await request.close()
            request.state.body.release()  # before the call waits

        submission = Submission(
            form, files, caller, form.given, idempotency_key, sent, request_id=request.state.request_id
        )
        answer = await submit_and_wait(backend, submission, wait, accepted)
    if answer.view is None:
        return left_response()
    headers = {"Location": answer.view.url}
    if answer.submitted.replayed:
        headers["Idempotency-Replayed"] = "true"
    if wait is None:
        return job_response(answer.view, 202, headers)
    applied = {} if asked_s is None else {"Preference-Applied": f"wait={wait_s}"}
    return await _answer(backend, request, answer.view, media_types, headers | applied)


async def _files(
    request: Request, backend: Backend, form: InpaintForm, caller: str, fetched: ExitStack
) -> dict[InputName, BinaryIO]:
    """The pictures that were sent, and those that are fetched, which ``fetched`` closes. Raises InvalidField."""
    limits = {"image": backend.settings.max_image_bytes, "mask": backend.settings.max_mask_bytes}
    files: dict[InputName, BinaryIO] = {}
    for name in INPUTS:
        sent, url = getattr(form, name), getattr(form, f"{name}_url")
        place = (limits[name], caller, request.state.body)
        file = await backend.fetches.sent_or_fetched(name, sent, url, fetched, *place)
        if file is not None:
            files[name] = file
    return files


async def _answer(
    backend: Backend, request: Request, view: JobView, media_types: list[str], headers: dict[str, str]
) -> Response:
    """To a call that has waited."""
    if not view.status.ended:
        if JSON not in media_types:
            return still_running_response(request, view, headers)
        return job_response(view, 202, headers)
    if media_types[0] != JSON:
        headers["Content-Location"] = view.images[0].url if view.images else view.url
        return await anyio.to_thread.run_sync(image_response, backend, request, view, 0, headers)
    return job_response(view, 200, headers)
