"""``/v1/models``: what can be asked for by ``model``."""

from collections.abc import Mapping
from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from app.authentication import needs
from app.backend import BackendDep
from app.examples import KEY_PROBLEMS, problems
from app.schedulers import offered_schedulers
from jobs.catalog import Catalog, Preset, TaskRecipe, workers_by_model
from jobs.feedforward import unused_fields
from jobs.prompt_syntax import syntaxes_of
from jobs.schema import PromptSyntax, Record, WorkerPresence
from jobs.speed import WorkerSpeed

router = APIRouter(
    prefix="/v1/models", tags=["catalog"], responses=problems(*KEY_PROBLEMS), dependencies=[needs("read")]
)


class ModelView(Record):
    name: str
    default: bool = Field(description="Whether a request without a model gets this one.")
    family: str
    description: str
    num_inference_steps: int
    guidance_scale: float
    strength: float
    scheduler: str
    schedulers: list[str] = Field(
        description="Noise schedulers that a request can name: those that fit its noise levels, as far as is known."
    )
    masked_content: str
    cache_interval: int
    size_px: int = Field(description="Shortest side that is run: as trained.")
    max_size_px: int = Field(description="Longest side that is run.")
    hires_strength: float = Field(description="Of tiles that are run over an enlarged fill, at most.")
    hires_tiles: int = Field(description="Tiles that a request gets where it sends no hires, at most.")
    max_hires_tiles: int = Field(description="Tiles of one job at most, of all its images together.")
    max_num_inference_steps: int
    max_n: int
    prompt_syntaxes: list[PromptSyntax] = Field(description="What `prompt_syntax` can be where words are weighted.")
    needs_surroundings: bool = Field(description="Whether it paints from what surrounds a hole: no full masks then.")
    unused_fields: list[str] = Field(
        description="Request fields that it does nothing with; values other than its own are refused."
    )
    presets: dict[str, Preset] = Field(description="What `preset` can name, and what it sets; null: as by default.")
    tasks: dict[str, TaskRecipe] = Field(
        description="What `task` can name beside fill, and what it sets; null: as by default."
    )
    workers: list[str] = Field(description="Living workers that serve it, loaded or not.")
    loaded_by: list[str] = Field(description="Those of them that have it on their device now.")
    loading_by: list[str] = Field(description="Those of them that load it now, for a job that waits for it.")


class SegmenterView(Record):
    """What finds words in a photo: `mask_model`."""

    name: str
    network: str
    description: str
    least_score: float = Field(description="An answer with a lower score fails its job: `mask_not_found`.")
    workers: list[str] = Field(description="Living workers that serve it, loaded or not.")
    loaded_by: list[str] = Field(description="Those of them that have it on their device now.")


class OpenAIModel(Record):
    """A model as OpenAI's clients list it."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "infill"


class ModelsView(Record):
    models: list[ModelView]
    segmenters: list[SegmenterView] = Field(description="What `mask_model` can name, to find `mask_prompt`.")
    object: Literal["list"] = Field("list", description="This and `data`: the same list for OpenAI's clients.")
    data: list[OpenAIModel]


OPERATORS_OWN = {"source", "revision", "config", "dtype", "prediction_type", "convention", "pinned", "allow_pickle"}


@router.get("", summary="List the models", responses=problems("store_unavailable"))
def models(backend: BackendDep) -> ModelsView:
    """Each model with the defaults, limits and presets of a request that names it, and where it is loaded."""
    workers = backend.queue.store.workers()
    speeds = backend.queue.store.speeds([worker.name for worker in workers])
    offered, catalog = offered_schedulers(backend), backend.catalog
    return ModelsView(
        models=[_view(name, catalog, workers, speeds, offered[name]) for name in catalog.models],
        segmenters=[_segmenter(name, catalog, workers) for name in catalog.segmenters],
        data=[OpenAIModel(id=name) for name in catalog.models],
    )


def _view(
    name: str,
    catalog: Catalog,
    workers: list[WorkerPresence],
    speeds: Mapping[str, WorkerSpeed],
    schedulers: list[str],
) -> ModelView:
    return ModelView(
        name=name,
        default=name == catalog.default,
        workers=workers_by_model(catalog, workers)[name],
        loaded_by=[worker.name for worker in workers if name in worker.loaded],
        loading_by=[worker for worker, speed in speeds.items() if name in speed.loading],
        schedulers=schedulers,
        unused_fields=list(unused_fields(catalog.models[name])),
        prompt_syntaxes=syntaxes_of(catalog.models[name].family),
        **catalog.models[name].model_dump(exclude=OPERATORS_OWN | {"schedulers"}),
    )


def _segmenter(name: str, catalog: Catalog, workers: list[WorkerPresence]) -> SegmenterView:
    return SegmenterView(
        name=name,
        workers=workers_by_model(catalog, workers)[name],
        loaded_by=[worker.name for worker in workers if name in worker.loaded],
        **catalog.segmenters[name].model_dump(include={"network", "description", "least_score"}),
    )
