"""The one way from a job's id in an address to the job."""

from typing import Annotated

from fastapi import Depends
from rq.job import Job

from app.authentication import Principal, principal_of
from app.backend import BackendDep
from jobs.queue import no_job


def owned_job(job_id: str, principal: Annotated[Principal, Depends(principal_of)], backend: BackendDep) -> Job:
    """The job, if the caller may have it. Raises JobNotFound.

    Without keys an id is all that it takes. With them, another tenant's job is not found.
    """
    job = backend.queue.job(job_id)
    check_owned(job, principal)
    return job


def check_owned(job: Job, principal: Principal) -> None:
    """Raise JobNotFound for another tenant's job, with the very words of a job that is not there."""
    if principal.tenant is not None and job.meta.get("owner") != principal.name:
        raise no_job(job.id)


OwnedJob = Annotated[Job, Depends(owned_job)]
