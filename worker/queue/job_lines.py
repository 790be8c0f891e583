"""One log line for each job that this worker ends, ``job_ended``: what it was, how it ended, where its time went."""

import logging
from contextlib import suppress
from typing import Any

from pydantic import ValidationError
from rq.exceptions import DeserializationError
from rq.job import Job

from jobs.queue import parameters_of
from jobs.schema import InpaintParameters, JobReport
from worker.engine.task import Task

log = logging.getLogger("worker.jobs")

NOT_TIMES = ("steps", "batch_mean")
"""Of the timings; the line has them by themselves."""


def log_end(job: Job, outcome: str, task: Task | None = None, report: JobReport | None = None) -> None:
    """Log that a job has ended.

    Args:
        outcome: ``succeeded``, ``canceled`` or the error's code, as in ``infill_jobs_ended_total``.
        task: the job in this worker; None where it was never begun here.
        report: of a job that succeeded.
    """
    meta = job.meta if isinstance(job.meta, dict) else {}
    fields: dict[str, Any] = {"job_id": job.id, "request_id": meta.get("request_id"), "outcome": outcome}
    if parameters := task.parameters if task else _parameters(job):
        fields |= {"model": parameters.model, "n": parameters.n, "steps": parameters.num_inference_steps}
    if task:
        fields |= _run(task, report)
    log.info("job_ended", extra=fields)


def _parameters(job: Job) -> InpaintParameters | None:
    """None where the record cannot be read."""
    with suppress(ValidationError, DeserializationError):
        return parameters_of(job)
    return None


def _run(task: Task, report: JobReport | None) -> dict[str, Any]:
    timings = report.timings if report else task.timings
    fields: dict[str, Any] = {"steps": timings.steps, "batch_mean": timings.batch_mean}
    if task.area_px:
        fields["size"] = "{}x{}".format(*task.picture.size)
        fields["run_size"] = "{}x{}".format(*task.passes[0].canvas)
        if task.tiles:
            fields["tiles"] = len(task.tiles)
    return {**fields, "timings": timings.model_dump(exclude=set(NOT_TIMES))}
