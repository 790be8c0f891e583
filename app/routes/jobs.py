"""``/v1/jobs/{job_id}``: look at a job, follow it, fetch its images, cancel it."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.answers import image_response, job_response, location
from app.examples import JOB, QUEUED, json_example, problems
from app.ownership import OwnedJob
from app.service import ServiceDep
from app.view import JobView, view_job, view_of
from app.waiting import watch

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"], responses=problems("invalid_field"))

JSON_JOB: dict[int | str, dict[str, Any]] = {200: {"description": "The job.", "content": json_example(JOB)}}


@router.get("", summary="Look at a job", responses=JSON_JOB | problems("job_not_found", "store_unavailable"))
def job(job: OwnedJob, service: ServiceDep) -> JobView:
    """Status, queue position, progress, seeds, mask report, images, timings, and why it failed if it did."""
    return view_of(service.queue, job)


@router.delete(
    "",
    summary="Cancel a job",
    response_model=JobView,
    responses={
        200: {"description": "Canceled.", "content": json_example(JOB | {"status": "canceled"})},
        202: {"description": "It runs, and stops at its next step.", "content": json_example(QUEUED)},
        **problems("job_not_found", "job_already_finished", "store_unavailable"),
    },
)
def cancel(job: OwnedJob, service: ServiceDep) -> Response:
    """Cancel a job that waits or runs. Canceling twice is fine."""
    service.queue.cancel(job.id)
    view = view_job(service.queue, job.id)
    service.metrics.canceled.labels("ok").inc()
    return job_response(view, 200 if view.status.ended else 202, {"Location": location(job.id)})


@router.get(
    "/images/{index}",
    summary="Fetch a result",
    response_class=Response,
    responses={
        200: {
            "description": "The image.",
            "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
        },
        304: {"description": "The image has not changed since the `ETag` that `If-None-Match` names."},
        **problems(
            "job_not_found",
            "image_not_found",
            "job_not_finished",
            "job_canceled",
            "result_expired",
            "crashed",
            "deadline_exceeded",
            "out_of_memory",
            "not_finite",
            "store_full",
            "store_unavailable",
        ),
    },
)
def image(job: OwnedJob, index: int, request: Request, service: ServiceDep) -> Response:
    """Image ``index`` of a job that succeeded. A failed job answers with its problem."""
    return image_response(service, request, view_of(service.queue, job), index)


@router.get(
    "/events",
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses=problems("job_not_found", "store_unavailable"),
)
async def events(job: OwnedJob, service: ServiceDep) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: ``progress`` with the job at every change, then ``end`` with the job as it ended."""
    async for seen in watch(service, job.id):
        yield ServerSentEvent(event="end" if seen.view.status.ended else "progress", raw_data=seen.text)
