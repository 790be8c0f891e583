"""``/healthz``: this process answers. ``/readyz``: a job submitted now would be taken and run."""

from typing import Literal

from fastapi import APIRouter

from app.examples import problems
from app.service import ServiceDep
from jobs.errors import NoWorker
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
    responses=problems("no_worker", "queue_full", "store_full", "store_unavailable"),
)
def readyz(service: ServiceDep) -> Readiness:
    """A problem while Redis is away or nearly full, no worker is alive, or the queue is at its limit."""
    workers = service.queue.store.workers()
    if not workers:
        raise NoWorker("No worker is alive. Jobs are accepted and wait for one.", 5)
    service.queue.check_room()
    return Readiness(workers=len(workers), queue_depth=service.queue.depth())
