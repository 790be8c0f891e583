"""``/v1/workers``: who is alive."""

from fastapi import APIRouter

from app.examples import problems
from app.service import ServiceDep
from jobs.schema import Record, WorkerPresence

router = APIRouter(prefix="/v1/workers", tags=["operation"])


class WorkersView(Record):
    workers: list[WorkerPresence]


@router.get("", summary="List the living workers", responses=problems("store_unavailable"))
def workers(service: ServiceDep) -> WorkersView:
    """Each worker whose lease has not lapsed: its models, seats, jobs, device memory and last beat."""
    return WorkersView(workers=service.queue.store.workers())
