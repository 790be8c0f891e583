"""Responses that carry a job or its image."""

import math

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from app.problems import failure_response, problem_response
from app.service import Service
from app.view import JobView
from jobs.errors import ImageNotFound, JobCanceled, JobNotFinished, ResultExpired, StillRunning
from jobs.schema import JobStatus, RegionReport, Timings

LONGEST_RETRY_S = 60

NOT_PARTS = ("steps", "step_p50", "batch_mean")
"""Fields of Timings that are not a stretch of time."""


def location(job_id: str) -> str:
    return f"/v1/jobs/{job_id}"


def server_timing(timings: Timings) -> str:
    """The ``Server-Timing`` header: every part and the total, in milliseconds."""
    parts = timings.model_dump(exclude=set(NOT_PARTS))
    return ", ".join(f"{name};dur={milliseconds:.2f}" for name, milliseconds in parts.items())


def job_response(view: JobView, status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    timing = {"Server-Timing": server_timing(view.timings)} if view.timings else {}
    return JSONResponse(view.model_dump(mode="json"), status, timing | (headers or {}))


def still_running_response(request: Request, view: JobView, headers: dict[str, str]) -> JSONResponse:
    """For a call that takes an image only: the job goes on, and ``Location`` is where to look."""
    eta_s = math.ceil((view.progress.eta_ms or 0) / 1000)
    error = StillRunning(
        f"The job is {view.status.value} and goes on. Its image will be at {location(view.id)}/images/0."
    )
    response = problem_response(request, error)
    response.headers.update(headers | {"Retry-After": str(min(max(eta_s, 1), LONGEST_RETRY_S))})
    return response


def image_response(
    service: Service, request: Request, view: JobView, index: int, headers: dict[str, str] | None = None
) -> Response:
    """Image ``index`` of a job, or the problem that says why there is none. Asks Redis.

    Raises JobNotFinished, JobCanceled, ImageNotFound, ResultExpired.
    """
    if view.status is JobStatus.FAILED and view.error:
        return failure_response(request, view.error)
    if view.status is JobStatus.CANCELED:
        raise JobCanceled("The job was canceled before it had an image.")
    if view.status is not JobStatus.SUCCEEDED:
        raise JobNotFinished(f"The job is {view.status.value}; its images come when it has succeeded.")
    if not 0 <= index < len(view.images):
        raise ImageNotFound(f"The job has {len(view.images)} image(s), counted from 0; there is no image {index}.")
    described = _headers(service, view, index) | (headers or {})
    if request.method == "GET" and _matches(request, described["ETag"]):
        return Response(status_code=304, headers=described)
    image = service.queue.store.result(view.id, index)
    if image is None:
        lifetime_s = service.settings.result_ttl_s
        raise ResultExpired(f"Images are kept for {lifetime_s} s after the job has ended. Submit it again.")
    return Response(image, headers=described, media_type=view.images[index].content_type)


def _headers(service: Service, view: JobView, index: int) -> dict[str, str]:
    headers = {
        "ETag": f'"{view.id}-{index}"',
        "Cache-Control": f"private, max-age={service.settings.result_ttl_s}, immutable",
        "Content-Disposition": f'inline; filename="infill-{view.id[:12]}-{index}.png"',
        "Infill-Job": view.id,
        "Infill-Seed": str(view.seeds[index]),
        "Infill-Changed-Outside-Mask": str(view.mask.changed_outside_mask),
    }
    if view.region:
        headers["Infill-Region"] = _region(view.region)
    if view.approximate:
        headers["Infill-Approximate"] = ", ".join(view.approximate)
    return headers | ({"Server-Timing": server_timing(view.timings)} if view.timings else {})


def _region(region: RegionReport) -> str:
    """``box=0,0,640,480; run_px=512x384; scale=0.8``."""
    width, height = region.run_px
    return f"box={','.join(map(str, region.box))}; run_px={width}x{height}; scale={region.scale:g}"


def _matches(request: Request, etag: str) -> bool:
    """Whether ``If-None-Match`` names this image."""
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in tags or "*" in tags
