"""``/v1/workers``: who is alive."""

from fastapi import APIRouter
from pydantic import Field

from app.examples import problems
from app.service import ServiceDep
from jobs.schema import Record, WorkerPresence

router = APIRouter(prefix="/v1/workers", tags=["operation"])


class WorkerView(WorkerPresence):
    clock_ahead_s: float | None = Field(
        description="By how much its machine's clock is ahead of Redis'; null: a worker of an older version."
    )


class WorkersView(Record):
    workers: list[WorkerView]


@router.get("", summary="List the living workers", responses=problems("store_unavailable"))
def workers(service: ServiceDep) -> WorkersView:
    """Each worker whose lease has not lapsed: its models, seats, jobs, device memory, last beat and clock."""
    present = service.queue.store.workers()
    paces = service.queue.store.paces([worker.name for worker in present])
    return WorkersView(
        workers=[
            WorkerView(
                **dict(worker),
                clock_ahead_s=paces[worker.name].clock_ahead_s if worker.name in paces else None,
            )
            for worker in present
        ]
    )
