"""``/v1/loras``: what can be asked for by ``loras``."""

from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter
from pydantic import Field

from app.authentication import needs
from app.backend import BackendDep
from app.examples import KEY_PROBLEMS, problems
from jobs.catalog import ModelEntry
from jobs.errors import InvalidLora, LoraMismatch
from jobs.lora_layers import Width
from jobs.loras import LoraFile, LoraFolder
from jobs.schema import Record

router = APIRouter(
    prefix="/v1/loras", tags=["catalog"], responses=problems(*KEY_PROBLEMS), dependencies=[needs("read")]
)


class LoraView(Record):
    name: str
    families: list[str] = Field(description="Families it may be for; several where the file leaves it open.")
    models: list[str] = Field(description="Models it can be asked for with, as far as is known before they are loaded.")
    rank: int | None = Field(description="The largest among its layers.")
    size_bytes: int
    problem: str | None = Field(description="Why it cannot be used.")


class LorasView(Record):
    loras: list[LoraView]


@router.get("", summary="List the adapters", responses=problems("store_unavailable"))
def loras(backend: BackendDep) -> LorasView:
    """The adapters in `INFILL_LORA_DIR`, as their headers describe them."""
    models = backend.catalog.models
    widths = {name: backend.queue.store.known.widths(entry.source) for name, entry in models.items()}
    folder = backend.loras
    return LorasView(loras=[_view(folder, path, models, widths) for path in folder.paths().values()])


def _view(
    folder: LoraFolder,
    path: Path,
    models: Mapping[str, ModelEntry],
    widths: Mapping[str, Mapping[str, Width] | None],
) -> LoraView:
    try:
        file = folder.describe(path)
    except InvalidLora as error:
        return LoraView(name=path.stem, families=[], models=[], rank=None, size_bytes=0, problem=str(error))
    return LoraView(
        name=file.name,
        families=list(file.families),
        models=[name for name, entry in models.items() if _fits(file, name, entry, widths[name])],
        rank=file.rank,
        size_bytes=file.size_bytes,
        problem=None,
    )


def _fits(file: LoraFile, name: str, entry: ModelEntry, widths: Mapping[str, Width] | None) -> bool:
    try:
        file.check_fits(name, entry.family, widths)
    except LoraMismatch:
        return False
    return True
