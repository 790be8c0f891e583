"""``/healthz``: this process answers. ``/readyz``: a job submitted now would be taken and run."""

from typing import Literal

from fastapi import APIRouter, Request, Response

from app.examples import problems
from app.problems import problem_response
from app.service import ServiceDep
from jobs.errors import NoWorker, Refused
from jobs.schema import Record

router = APIRouter(tags=["operation"])


class Health(Record):
    status: Literal["ok"] = "ok"


class Readiness(Record):
    status: Literal["ready"] = "ready"
    workers: int
    queue_depth: int


@router.get("/healthz", summary="Is the process up?")
async def healthz() -> Health:
    """Asks nothing of Redis: restarting the API does not mend Redis."""
    return Health()


@router.get(
    "/readyz",
    summary="Can jobs be taken and run?",
    response_model=Readiness,
    responses=problems("no_worker", "store_full", "store_unavailable"),
)
def readyz(request: Request, service: ServiceDep) -> Readiness | Response:
    """A 503 while Redis is away or nearly full, no worker is alive, or the queue is at its limit (`queue_full`)."""
    workers = service.queue.store.workers()
    if not workers:
        raise NoWorker("No worker is alive. Jobs are accepted and wait for one.", 5)
    try:
        service.queue.check_room()
    except Refused as error:
        return problem_response(request, error, status=503)
    return Readiness(workers=len(workers), queue_depth=service.queue.depth())
