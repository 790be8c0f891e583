"""``/v1/models``: what can be asked for by ``model``."""

from fastapi import APIRouter
from pydantic import Field

from app.examples import problems
from app.service import ServiceDep
from jobs.catalog import ModelEntry, workers_by_model
from jobs.schema import Record

router = APIRouter(prefix="/v1/models", tags=["catalog"])


class ModelView(Record):
    name: str
    default: bool = Field(description="Whether a request without a model gets this one.")
    family: str
    description: str
    num_inference_steps: int
    guidance_scale: float
    strength: float
    scheduler: str
    masked_content: str
    size_px: int = Field(description="Shortest side that is run: as trained.")
    max_size_px: int = Field(description="Longest side that is run.")
    workers: list[str] = Field(description="Living workers that have it loaded.")


class ModelsView(Record):
    models: list[ModelView]


@router.get("", summary="List the models", responses=problems("store_unavailable"))
def models(service: ServiceDep) -> ModelsView:
    """Each model with the defaults of a request that names it, and the workers that have it loaded."""
    loaded = workers_by_model(service.catalog, service.queue.store.workers())
    return ModelsView(
        models=[
            _view(name, entry, name == service.catalog.default, loaded[name])
            for name, entry in service.catalog.models.items()
        ]
    )


def _view(name: str, entry: ModelEntry, default: bool, workers: list[str]) -> ModelView:
    return ModelView(name=name, default=default, workers=workers, **entry.model_dump(exclude={"source"}))
