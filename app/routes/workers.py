"""``/v1/workers``: who is alive."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import Field

from app.authentication import needs
from app.backend import BackendDep
from app.examples import KEY_PROBLEMS, problems
from jobs.schema import Record, WorkerPresence
from jobs.speed import WorkerSpeed

router = APIRouter(
    prefix="/v1/workers", tags=["operation"], responses=problems(*KEY_PROBLEMS), dependencies=[needs("admin")]
)


class WorkerView(Record):
    """A living worker as anybody may see it: without its jobs' ids, each of which is the key to its job."""

    name: str
    models: list[str] = Field(description="Models it serves: those of its catalog.")
    loaded: list[str] = Field(description="Those that lie on its device now; the others are loaded on first use.")
    seats: int
    jobs: int = Field(description="How many jobs it runs.")
    device: str
    device_memory_bytes: int
    last_beat_at: datetime
    clock_ahead_s: float | None = Field(
        description="By how much its machine's clock is ahead of Redis'; null: a worker of an older version."
    )


class WorkersView(Record):
    workers: list[WorkerView]


@router.get("", summary="List the living workers", responses=problems("store_unavailable"))
def workers(backend: BackendDep) -> WorkersView:
    """Each worker whose lease has not lapsed: its models, seats, number of jobs, device memory, last beat and clock."""
    present = backend.queue.store.workers()
    speeds = backend.queue.store.speeds([worker.name for worker in present])
    return WorkersView(workers=[_view(worker, speeds.get(worker.name)) for worker in present])


def _view(presence: WorkerPresence, speed: WorkerSpeed | None) -> WorkerView:
    shown = presence.model_dump(include=set(WorkerView.model_fields))
    return WorkerView(**shown | {"jobs": len(presence.jobs), "clock_ahead_s": speed.clock_ahead_s if speed else None})
