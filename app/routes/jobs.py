"""``/v1/jobs/{job_id}``: look at a job, follow it, fetch its images, cancel it."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.authentication import needs
from app.backend import BackendDep
from app.examples import IMAGES, KEY_PROBLEMS, job_example, problems
from app.feeds import Seen
from app.follow import wait_if_preferred, watch
from app.negotiation import Prefer
from app.ownership import OwnedJob
from app.previews import watch_with_previews
from app.responses import image_response, job_response, left_response, mask_response, still_running_response
from jobs.job_view import JobView, view_job, view_of
from jobs.previews import Preview

router = APIRouter(
    prefix="/v1/jobs/{job_id}",
    tags=["jobs"],
    responses=problems("invalid_field", *KEY_PROBLEMS),
)
READ = [needs("read")]

RETRY_MS = 2000
"""How long an ``EventSource`` waits before it connects again."""

JSON_JOB: dict[int | str, dict[str, Any]] = {200: {"description": "The job.", "content": job_example("succeeded")}}


@router.get(
    "",
    dependencies=READ,
    summary="Look at a job",
    response_model=JobView,
    responses=JSON_JOB | problems("job_not_found", "store_unavailable"),
)
async def job(job: OwnedJob, request: Request, backend: BackendDep, prefer: Prefer = None) -> Response:
    """Status, queue position, progress, seeds, mask report, images, timings, and why it failed if it did.

    `Prefer: wait=30` holds the call until the job has ended, for up to 30 s.
    """
    view, applied = await wait_if_preferred(backend, request.is_disconnected, job, prefer)
    return left_response() if view is None else job_response(view, 200, applied)


@router.delete(
    "",
    dependencies=[needs("submit")],
    summary="Cancel a job",
    response_model=JobView,
    responses={
        200: {"description": "Canceled.", "content": job_example("canceled")},
        202: {
            "description": "It runs, and stops at its next step.",
            "model": JobView,
            "content": job_example("queued"),
        },
        **problems("job_not_found", "job_already_finished", "store_unavailable"),
    },
)
def cancel(job: OwnedJob, backend: BackendDep) -> Response:
    """Cancel a job that waits or runs. Canceling twice is fine."""
    backend.queue.cancel(job.id)
    view = view_job(backend.queue, job.id)
    backend.metrics.canceled.labels("ok").inc()
    return job_response(view, 200 if view.status.ended else 202, {"Location": view.url})


@router.get(
    "/images/{index}",
    dependencies=READ,
    summary="Fetch a result",
    response_class=Response,
    responses={
        200: {
            "description": "The image, in the job's `output_format`.",
            "content": IMAGES,
        },
        304: {"description": "The image has not changed since the `ETag` that `If-None-Match` names."},
        **problems(
            "job_not_found",
            "image_not_found",
            "job_not_finished",
            "job_canceled",
            "still_running",
            "result_expired",
            "crashed",
            "deadline_exceeded",
            "out_of_memory",
            "not_finite",
            "invalid_field",
            "mask_not_found",
            "store_full",
            "store_unavailable",
        ),
    },
)
async def image(job: OwnedJob, index: int, request: Request, backend: BackendDep, prefer: Prefer = None) -> Response:
    """Image ``index`` of a job that succeeded. A failed job answers with its problem.

    `Prefer: wait=30` holds the call until the job has ended, for up to 30 s; after that, it is a 504.
    """
    view, applied = await wait_if_preferred(backend, request.is_disconnected, job, prefer)
    if view is None:
        return left_response()
    if applied and not view.status.ended:
        return still_running_response(request, view, {"Location": view.url} | applied)
    return await anyio.to_thread.run_sync(image_response, backend, request, view, index, applied)


@router.get(
    "/mask",
    dependencies=READ,
    summary="Fetch the mask that was used",
    response_class=Response,
    responses={
        200: {
            "description": "A grey PNG of the upright photo's size; white is repainted.",
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        },
        304: {"description": "`If-None-Match` names its `ETag`; it never changes."},
        **problems(
            "job_not_found",
            "mask_not_kept",
            "job_not_finished",
            "job_canceled",
            "mask_not_found",
            "result_expired",
            "store_unavailable",
        ),
    },
)
def mask(job: OwnedJob, request: Request, backend: BackendDep) -> Response:
    """The mask that was found or drawn, before it is grown and feathered; from submission on, as long as the results.

    A mask that was a file alone is not kept. What `mask_prompt` names is there once the job has succeeded.
    """
    return mask_response(backend, request, view_of(backend.queue, job))


LastEventId = Annotated[str | None, Header(description="The `id` of the last event that was received.")]


def resume(job: OwnedJob, response: Response, backend: BackendDep, last_event_id: LastEventId = None) -> str | None:
    """The id of the event that the caller has seen. 204 if that was the end: an ``EventSource`` connects no more."""
    if last_event_id is not None:
        seen = Seen(0, view_of(backend.queue, job))
        if seen.view.status.ended and seen.id == last_event_id:
            response.status_code = 204
    return last_event_id


@router.get(
    "/events",
    dependencies=READ,
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "Events named `progress` and one named `end`, each with the job as JSON; with `preview=1` "
            "also `preview`."
        },
        204: {"description": "The event that `Last-Event-ID` names was the end."},
        **problems("job_not_found", "store_unavailable"),
    },
)
async def events(
    job: OwnedJob,
    backend: BackendDep,
    seen_id: Annotated[str | None, Depends(resume)],
    preview: Annotated[bool, Query(description="Also send small pictures as the job forms.")] = False,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: ``progress`` with the job at every change, then ``end`` with the job as it ended.

    Those with the job have an `id`. With `Last-Event-ID`, the job is sent once it is not as it was then.
    """
    async for found in watch_with_previews(backend, job.id) if preview else watch(backend, job.id):
        if isinstance(found, Preview):
            yield ServerSentEvent(event="preview", raw_data=found.model_dump_json())
        elif found and found.id != seen_id:
            kind = "end" if found.view.status.ended else "progress"
            yield ServerSentEvent(event=kind, raw_data=found.text, id=found.id, retry=RETRY_MS)
