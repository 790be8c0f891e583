"""The one way from a job's id in an address to the job."""

from typing import Annotated

from fastapi import Depends
from rq.job import Job

from app.callers import Caller
from app.service import ServiceDep


def owned_job(job_id: str, caller: Caller, service: ServiceDep) -> Job:  # noqa: ARG001
    """The job, if the caller may have it. Raises JobNotFound.

    Today an id is all that it takes. Once callers have keys that are checked, another caller's job is not found.
    """
    return service.queue.job(job_id)


OwnedJob = Annotated[Job, Depends(owned_job)]
