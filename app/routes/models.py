"""``/v1/models``: what can be asked for by ``model``."""

from fastapi import APIRouter
from pydantic import Field

from app.examples import problems
from app.service import ServiceDep
from jobs.catalog import Catalog, Preset, workers_by_model
from jobs.schema import Record, WorkerPresence

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
    max_num_inference_steps: int
    max_n: int
    presets: dict[str, Preset] = Field(description="What `preset` can name, and what it sets; null: as by default.")
    workers: list[str] = Field(description="Living workers that serve it, loaded or not.")
    loaded_by: list[str] = Field(description="Those of them that have it on their device now.")


class ModelsView(Record):
    models: list[ModelView]


OPERATORS_OWN = {"source", "revision", "config", "dtype", "prediction_type", "pinned"}


@router.get("", summary="List the models", responses=problems("store_unavailable"))
def models(service: ServiceDep) -> ModelsView:
    """Each model with the defaults, limits and presets of a request that names it, and where it is loaded."""
    workers = service.queue.store.workers()
    return ModelsView(models=[_view(name, service.catalog, workers) for name in service.catalog.models])


def _view(name: str, catalog: Catalog, workers: list[WorkerPresence]) -> ModelView:
    return ModelView(
        name=name,
        default=name == catalog.default,
        workers=workers_by_model(catalog, workers)[name],
        loaded_by=[worker.name for worker in workers if name in worker.loaded],
        **catalog.models[name].model_dump(exclude=OPERATORS_OWN),
    )
