"""``/v1/schedulers``: what can be asked for by ``scheduler``."""

from fastapi import APIRouter

from jobs.catalog import SCHEDULERS
from jobs.schema import Record

router = APIRouter(prefix="/v1/schedulers", tags=["catalog"])


class SchedulerView(Record):
    name: str
    description: str


class SchedulersView(Record):
    schedulers: list[SchedulerView]


@router.get("", summary="List the noise schedulers")
def schedulers() -> SchedulersView:
    """The noise schedulers, for every model."""
    return SchedulersView(schedulers=[SchedulerView(name=name, description=text) for name, text in SCHEDULERS.items()])
