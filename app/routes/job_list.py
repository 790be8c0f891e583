"""``/v1/jobs``: a tenant's own jobs, and the cancelling of several."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field
from rq.job import Job
from rq.serializers import JSONSerializer

from app.authentication import Principal, needs, principal_of
from app.backend import Backend, BackendDep
from app.examples import KEY_PROBLEMS, problems
from app.json_bodies import parsed
from app.ownership import check_owned
from app.paging import Cursor, Limit, check_listed, next_page, place_of, takes
from jobs.errors import JobError
from jobs.job_index import Place
from jobs.job_view import JobSummary, status_of, summary_of
from jobs.schema import JobStatus, Record

MOST_CANCELS = 100
MAX_BODY_BYTES = 2**16
LOOKED_AT = 1000
"""Jobs that one call looks at in search of those of a status."""

router = APIRouter(tags=["jobs"], responses=problems("invalid_field", *KEY_PROBLEMS, "store_unavailable"))
CallerDep = Annotated[Principal, Depends(principal_of)]


class JobsView(Record):
    jobs: list[JobSummary] = Field(description="Newest first.")
    next: str | None = Field(description="`cursor` of the next page; null: there is none.")


class JobIds(Record):
    ids: list[Annotated[str, Field(max_length=200)]] = Field(min_length=1, max_length=MOST_CANCELS)


class CancelOutcome(Record):
    id: str
    outcome: Literal["canceled", "stopping", "refused"] = Field(description="stopping: it stops at its next step.")
    code: str | None = Field(description="Why it was refused: job_not_found, job_already_finished.")


class CancelOutcomes(Record):
    jobs: list[CancelOutcome] = Field(description="In the order of `ids`.")


@router.get("/v1/jobs", summary="List your jobs", dependencies=[needs("read"), takes("limit", "status", "cursor")])
def jobs(
    principal: CallerDep,
    backend: BackendDep,
    response: Response,
    limit: Limit = 20,
    status: Annotated[Literal["queued", "running", "succeeded", "failed", "canceled"] | None, Query()] = None,
    cursor: Cursor = None,
) -> JobsView:
    """The jobs of your API key's tenant whose records have not expired, up to the latest 10,000.

    A job whose model is being loaded counts as running. With `status`, a page can be short, or empty, and still have
    a `next`. A service without keys lists no jobs.
    """
    check_listed(principal)
    found, last = _page(backend, principal, place_of(cursor), limit, JobStatus(status) if status else None)
    return JobsView(jobs=found, next=next_page(response, last, limit=limit, status=status))


def _page(
    backend: Backend, principal: Principal, place: Place | None, limit: int, status: JobStatus | None
) -> tuple[list[JobSummary], Place | None]:
    """The jobs, and the place of the last one looked at, if others may stand behind it."""
    found: list[JobSummary] = []
    for _ in range(LOOKED_AT // 100 if status else 1):
        wanted = 100 if status else limit
        places = backend.queue.index.older(principal.name, place, wanted)
        for looked_at, job in zip(places, _jobs(backend, principal, places), strict=True):
            place = looked_at
            if job and (status is None or status_of(job) is status):
                found.append(summary_of(job))
            if len(found) == limit:
                return found, place
        if len(places) < wanted:
            return found, None
    return found, place


def _jobs(backend: Backend, principal: Principal, places: list[Place]) -> list[Job | None]:
    """In one round trip. Those that have expired leave the list."""
    ids = [place.job_id for place in places]
    found = Job.fetch_many(ids, connection=backend.queue.connection, serializer=JSONSerializer) if ids else []
    backend.queue.index.forget(principal.name, [job_id for job_id, job in zip(ids, found, strict=True) if job is None])
    return found


async def check_names(request: Request) -> None:
    """Raise InvalidField for a name that comes twice in the body: FastAPI takes the last one."""
    if text := await request.body():
        parsed(text)


@router.post(
    "/v1/jobs/cancel",
    summary="Cancel several jobs",
    dependencies=[needs("submit"), Depends(check_names)],
    max_body_size=MAX_BODY_BYTES,
)
def cancel(asked: JobIds, principal: CallerDep, backend: BackendDep) -> CancelOutcomes:
    """Each as by `DELETE /v1/jobs/{job_id}`; what happened to each."""
    return CancelOutcomes(jobs=[_canceled(backend, principal, job_id) for job_id in asked.ids])


def _canceled(backend: Backend, principal: Principal, job_id: str) -> CancelOutcome:
    try:
        check_owned(backend.queue.job(job_id), principal)
        backend.queue.cancel(job_id)
        ended = status_of(backend.queue.job(job_id)).ended
    except JobError as error:
        backend.metrics.canceled.labels(error.code).inc()
        return CancelOutcome(id=job_id, outcome="refused", code=error.code)
    backend.metrics.canceled.labels("ok").inc()
    return CancelOutcome(id=job_id, outcome="canceled" if ended else "stopping", code=None)
