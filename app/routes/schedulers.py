"""``/v1/schedulers``: what can be asked for by ``scheduler``."""

from fastapi import APIRouter
from pydantic import Field

from app.authentication import needs
from app.examples import KEY_PROBLEMS, problems
from jobs.schedulers import SCHEDULERS, NoiseScheduler
from jobs.schema import Record

router = APIRouter(
    prefix="/v1/schedulers", tags=["catalog"], responses=problems(*KEY_PROBLEMS), dependencies=[needs("read")]
)


class SchedulerView(Record):
    name: str
    description: str
    families: list[str] = Field(description="Families of models that it fits.")
    min_steps: int
    max_steps: int


class SchedulersView(Record):
    schedulers: list[SchedulerView]


@router.get("", summary="List the noise schedulers")
def schedulers() -> SchedulersView:
    """The noise schedulers. A model takes those of its family that fit its noise levels: `/v1/models` lists them."""
    return SchedulersView(schedulers=[_view(name, scheduler) for name, scheduler in SCHEDULERS.items()])


def _view(name: str, scheduler: NoiseScheduler) -> SchedulerView:
    return SchedulerView(name=name, families=list(scheduler.families), **scheduler.model_dump(exclude={"law", "order"}))
