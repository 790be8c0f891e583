"""Responses that carry a job or its image."""

import math

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from app.backend import Backend
from app.problems import failure_response, problem_response
from jobs.errors import ImageNotFound, JobCanceled, JobNotFinished, MaskNotKept, ResultExpired, StillRunning
from jobs.job_view import JobView
from jobs.outputs import SUFFIXES
from jobs.schema import JobStatus, RegionReport, Timings

LONGEST_RETRY_S = 60
UNKNOWN_RETRY_S = 5
"""``Retry-After`` where there is no estimate of the job's end."""

NOT_PARTS = ("steps", "step_p50", "batch_mean")
"""Fields of Timings that are not a stretch of time."""


def server_timing(timings: Timings) -> str:
    """The ``Server-Timing`` header: every part and the total, in milliseconds."""
    parts = timings.model_dump(exclude=set(NOT_PARTS))
    return ", ".join(f"{name};dur={milliseconds:.2f}" for name, milliseconds in parts.items())


def retry_after_s(view: JobView) -> int:
    """When to look again at a job that has not ended: its estimated end, 1 to ``LONGEST_RETRY_S`` seconds away."""
    eta_ms = view.progress.eta_ms
    eta_s = UNKNOWN_RETRY_S if eta_ms is None else math.ceil(eta_ms / 1000)
    return min(max(eta_s, 1), LONGEST_RETRY_S)


def job_response(view: JobView, status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    """With ``Retry-After`` where it is a 202."""
    timing = {"Server-Timing": server_timing(view.timings)} if view.timings else {}
    retry = {"Retry-After": str(retry_after_s(view))} if status == 202 else {}
    return JSONResponse(view.model_dump(mode="json"), status, timing | retry | (headers or {}))


def left_response() -> Response:
    """Nobody reads it; its status is for the log and the metrics."""
    return Response(status_code=499)


def still_running_response(request: Request, view: JobView, headers: dict[str, str]) -> Response:
    """For a call that takes an image only: the job goes on, and ``Location`` is where to look."""
    error = StillRunning(f"The job is {view.status.value} and goes on. Its image will be at {view.url}/images/0.")
    response = problem_response(request, error)
    response.headers.update(headers | {"Retry-After": str(retry_after_s(view))})
    return response


def image_response(
    backend: Backend, request: Request, view: JobView, index: int, headers: dict[str, str] | None = None
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
    described = _headers(backend, view, index) | (headers or {})
    if request.method == "GET" and names_etag(request, described["ETag"]):
        return Response(status_code=304, headers=described)
    image = backend.queue.store.result(view.id, index)
    if image is None:
        lifetime_s = backend.settings.result_ttl_s
        raise ResultExpired(f"Images are kept for {lifetime_s} s after the job has ended. Submit it again.")
    return Response(image, headers=described, media_type=view.images[index].content_type)


def mask_response(backend: Backend, request: Request, view: JobView) -> Response:
    """The mask of a job. Asks Redis. Raises MaskNotKept, JobNotFinished, JobCanceled, ResultExpired."""
    if view.mask.sources == ["prompt"] and view.status is not JobStatus.SUCCEEDED:
        return _without_mask(request, view)
    if view.mask.sources == ["file"]:
        raise MaskNotKept("The job's mask was a file of yours, which is not kept. Masks that are found or drawn are.")
    described = {
        "ETag": f'"{view.id}-mask"',
        "Cache-Control": f"private, max-age={backend.settings.result_ttl_s}, immutable",
        "Content-Disposition": f'inline; filename="infill-{view.id[:12]}-mask.png"',
        "Infill-Job": view.id,
    }
    if request.method == "GET" and names_etag(request, described["ETag"]):
        return Response(status_code=304, headers=described)
    mask = backend.queue.store.used_mask(view.id)
    if mask is None:
        lifetime_s = backend.settings.result_ttl_s
        raise ResultExpired(f"Masks are kept for {lifetime_s} s after the job has ended. Submit it again.")
    return Response(mask, headers=described, media_type="image/png")


def _without_mask(request: Request, view: JobView) -> Response:
    """Of a job whose worker has found no mask, or not yet. Raises JobNotFinished, JobCanceled."""
    if view.status is JobStatus.FAILED and view.error:
        return failure_response(request, view.error)
    if view.status is JobStatus.CANCELED:
        raise JobCanceled("The job was canceled before it had a mask.")
    raise JobNotFinished(f"The job is {view.status.value}; what mask_prompt names is there when it has succeeded.")


def _headers(backend: Backend, view: JobView, index: int) -> dict[str, str]:
    suffix = SUFFIXES.get(view.images[index].content_type, "")
    headers = {
        "ETag": f'"{view.id}-{index}"',
        "Cache-Control": f"private, max-age={backend.settings.result_ttl_s}, immutable",
        "Content-Disposition": f'inline; filename="infill-{view.id[:12]}-{index}{suffix}"',
        "Infill-Job": view.id,
        "Infill-Seed": str(view.seeds[index]),
        "Infill-Changed-Outside-Mask": str(view.mask.changed_outside_mask),
    }
    if view.extend:
        headers["Infill-Extend"] = "; ".join(f"{name}={value}" for name, value in view.extend.model_dump().items())
    if view.region:
        headers["Infill-Region"] = _region(view.region)
    if view.approximate:
        headers["Infill-Approximate"] = ", ".join(view.approximate)
    return headers | ({"Server-Timing": server_timing(view.timings)} if view.timings else {})


def _region(region: RegionReport) -> str:
    """``box=0,0,640,480; run_px=512x384; scale=0.8``."""
    width, height = region.run_px
    tiles = f"; tiles={region.tiles}" if region.tiles else ""
    return f"box={','.join(map(str, region.box))}; run_px={width}x{height}; scale={region.scale:g}{tiles}"


def names_etag(request: Request, etag: str) -> bool:
    """Whether ``If-None-Match`` names what would be sent."""
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in tags or "*" in tags
