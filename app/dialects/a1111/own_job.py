"""What a caller sees and does of its latest job: ``progress``, ``interrupt`` and ``skip``."""

from contextlib import suppress
from typing import Any

from app.authentication import Caller
from app.backend import Backend, BackendDep
from app.dialects.a1111.callers_choice import CallersChoice
from jobs.errors import JobError
from jobs.job_view import JobView, view_job
from jobs.previews import Preview
from jobs.schema import JobStatus

LEAST, MOST = 0.01, 0.99
"""Of the progress of a job that has not ended: clients take 0 for idle."""


def progress(backend: BackendDep, caller: Caller, skip_current_image: bool = False) -> dict[str, Any]:
    """Of the caller's latest job by this API; idle where it has ended."""
    view = _latest(backend, caller)
    step, steps = (view.progress.step, view.progress.steps) if view else (0, 0)
    state = {
        "skipped": False,
        "interrupted": False,
        "stopping_generation": False,
        "job": "scripts_img2img" if view else "",
        "job_count": 1 if view else 0,
        "job_timestamp": f"{view.created_at:%Y%m%d%H%M%S}" if view else "0",
        "job_no": 0,
        "sampling_step": step,
        "sampling_steps": steps,
    }
    return {
        "progress": min(MOST, max(LEAST, step / max(steps, 1))) if view else 0.0,
        "eta_relative": (view.progress.eta_ms or 0) / 1000 if view else 0.0,
        "state": state,
        "current_image": _preview(backend, view.id) if view and not skip_current_image else None,
        "textinfo": f"In queue: {view.queue_position}" if view and view.status is JobStatus.QUEUED else None,
    }


def interrupt(backend: BackendDep, caller: Caller) -> dict[str, Any]:
    """Cancel the caller's latest job by this API, if it has not ended."""
    with suppress(JobError):
        if job_id := CallersChoice(backend.queue.connection, caller).job():
            backend.queue.cancel(job_id)
            backend.metrics.canceled.labels("ok").inc()
    return {}


def _latest(backend: Backend, caller: str) -> JobView | None:
    """The job, unless it has ended."""
    job_id = CallersChoice(backend.queue.connection, caller).job()
    with suppress(JobError):
        view = view_job(backend.queue, job_id) if job_id else None
        return None if view is None or view.status.ended else view
    return None


def _preview(backend: Backend, job_id: str) -> str | None:
    """The part that is run, as it forms, in base64. Asking for it has the worker make the next ones."""
    previews = backend.queue.store.previews
    previews.ask(job_id)
    record = previews.latest(job_id)
    return Preview.model_validate_json(record).image.partition(",")[2] if record else None
