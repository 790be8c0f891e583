"""``/healthz``: this process answers. ``/readyz``: a job submitted now would be taken and run."""

from typing import Literal

from fastapi import APIRouter, Request, Response

from app.backend import BackendDep
from app.examples import problems
from app.problems import problem_response
from jobs.catalog import workers_by_model
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
def readyz(request: Request, backend: BackendDep) -> Readiness | Response:
    """A 503 while Redis is away, nearly full or takes no writes, a model has no worker, or the queue is full."""
    backend.queue.store.check_writes()
    workers = backend.queue.store.workers()
    if missing := [name for name, living in workers_by_model(backend.catalog, workers).items() if not living]:
        named = ", ".join(missing)
        raise NoWorker(f"No living worker has model {named}. Jobs for it are accepted, and wait for one.", 5)
    try:
        backend.queue.check_room()
    except Refused as error:
        return problem_response(request, error, status=503)
    return Readiness(workers=len(workers), queue_depth=backend.queue.depth())
