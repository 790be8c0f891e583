"""``POST /v1/inpaint``: submit a job; wait for it if the caller prefers to."""

from contextlib import suppress
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, Form, Header, Request, Response

from app.answers import image_response, job_response, location, still_running_response
from app.callers import Caller
from app.examples import JOB, QUEUED, json_example, problems
from app.forms import FormRoute
from app.negotiation import JSON, PNG, media_types_of, wait_of
from app.service import Service, ServiceDep
from app.submission import InpaintForm, check_names, submit
from app.view import JobView
from app.waiting import look, wait_for_end
from jobs.errors import InvalidField, JobError
from jobs.queue import Submitted

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "With `Prefer: wait`: the job has ended. With `Accept: image/png`: its first image.",
        "content": json_example(JOB) | {PNG: {"schema": {"type": "string", "format": "binary"}}},
    },
    202: {"description": "Accepted; `Location` is the job's address.", "content": json_example(QUEUED)},
    **problems(
        "malformed_request",
        "unsupported_media_type",
        "request_timeout",
        "invalid_field",
        "unknown_field",
        "unknown_model",
        "unknown_lora",
        "invalid_lora",
        "lora_mismatch",
        "invalid_image",
        "invalid_mask",
        "mask_size_mismatch",
        "empty_mask",
        "doubtful_mask",
        "no_surroundings",
        "idempotency_conflict",
        "too_large",
        "not_acceptable",
        "queue_full",
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

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=255, description="A repeated call with the same key answers with the first job."),
]
Prefer = Annotated[
    list[str] | None, Header(description="`wait=30` holds the call until the job has ended, for up to 30 s.")
]
Accept = Annotated[
    list[str] | None,
    Header(description="`image/png` alone waits as long as the service lets it, and is answered with the first image."),
]


async def check_fields(request: Request) -> None:
    """Before any field is read: the names in the form. Raises UnknownField, InvalidField."""
    check_names(await request.form())


def make_router(max_body_bytes: int) -> APIRouter:
    """The route's body limit comes from the settings, hence a function."""
    router = APIRouter(tags=["jobs"], route_class=FormRoute)
    router.add_api_route(
        "/v1/inpaint",
        inpaint,
        methods=["POST"],
        status_code=202,
        response_model=JobView,
        responses=RESPONSES,
        summary="Submit a photo and a mask",
        max_body_size=max_body_bytes,
        dependencies=[Depends(check_fields)],
    )
    return router


async def inpaint(
    *,
    request: Request,
    service: ServiceDep,
    caller: Caller,
    form: Annotated[InpaintForm, Form(media_type="multipart/form-data")],
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
    accept: Accept = None,
) -> Response:
    """Repaint what the mask marks. Every pixel where the effective mask is 0 stays as it was, byte for byte."""
    media_types = media_types_of(", ".join(accept or []))
    longest_s = service.settings.max_wait_s
    asked_s = wait_of(prefer or [], longest_s)
    wait_s = longest_s if asked_s is None and JSON not in media_types else asked_s
    if form.on_disconnect == "cancel" and wait_s is None:
        raise InvalidField("on_disconnect=cancel is for calls that wait: send it with Prefer: wait=30, or not at all.")
    submitted = await submit(service, form, caller, idempotency_key)
    await request.close()
    request.state.body.release()  # before the call waits
    request.state.job_id = submitted.job_id
    if submitted.replayed:
        service.metrics.replayed.inc()
    else:
        service.metrics.submitted.labels(form.model or service.catalog.default).inc()
    if wait_s is None:
        return job_response(await look(service, submitted.job_id), 202, _headers(submitted))
    view = await wait_for_end(service, request, submitted.job_id, wait_s)
    if view is None:
        return await _after_a_caller_who_left(service, submitted.job_id, form.on_disconnect)
    applied = {} if asked_s is None else {"Preference-Applied": f"wait={wait_s}"}
    return await _answer(service, request, view, media_types, _headers(submitted) | applied)


def _headers(submitted: Submitted) -> dict[str, str]:
    replayed = {"Idempotency-Replayed": "true"} if submitted.replayed else {}
    return {"Location": location(submitted.job_id)} | replayed


async def _answer(
    service: Service, request: Request, view: JobView, media_types: list[str], headers: dict[str, str]
) -> Response:
    """To a call that has waited."""
    if not view.status.ended:
        if JSON not in media_types:
            return still_running_response(request, view, headers)
        return job_response(view, 202, headers)
    if media_types[0] == PNG:
        headers["Content-Location"] = f"{location(view.id)}/images/0"
        return await anyio.to_thread.run_sync(image_response, service, request, view, 0, headers)
    return job_response(view, 200, headers)


async def _after_a_caller_who_left(service: Service, job_id: str, on_disconnect: str) -> Response:
    """Nobody reads the answer; its status is for the log and the metrics."""
    if on_disconnect == "cancel":
        with suppress(JobError):  # it has just ended
            await anyio.to_thread.run_sync(service.queue.cancel, job_id)
            service.metrics.canceled.labels("left").inc()
    return Response(status_code=499)
