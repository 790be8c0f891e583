"""The models and noise schedulers that can be asked for by name."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from jobs.errors import BadModel, InvalidField, UnknownModel
from jobs.schema import Guidance, MaskedContent, Record, Steps, Strength, WorkerPresence

SCHEDULERS: dict[str, str] = {
    "ddim": "DDIM (Song et al. 2021), deterministic",
    "ddpm": "DDPM (Ho et al. 2020), ancestral",
    "euler": "Euler (Karras et al. 2022, algorithm 2 without churn)",
    "euler_a": "Euler, ancestral",
    "dpmpp_2m": "DPM-Solver++ 2M (Lu et al. 2022)",
    "dpmpp_2m_karras": "DPM-Solver++ 2M on the Karras sigmas",
    "unipc": "UniPC (Zhao et al. 2023)",
    "flow_euler": "Euler for flow matching (Esser et al. 2024)",
    "flow_euler_karras": "Euler for flow matching on the Karras sigmas",
    "flow_heun": "Heun for flow matching, two network calls a step",
}
"""Name -> description. ``worker/sampling.py`` knows the diffusers class of each."""

Scheduler = Literal[
    "ddim",
    "ddpm",
    "euler",
    "euler_a",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "unipc",
    "flow_euler",
    "flow_euler_karras",
    "flow_heun",
]


class ModelEntry(Record):
    """A model: its family, where its files are, and the defaults of a request that names it."""

    family: Literal["sd", "sdxl", "sd3", "flux", "qwen-image"]
    source: str = Field(description='"embedded" or a local diffusers folder')
    description: str = ""
    num_inference_steps: Steps
    guidance_scale: Guidance
    strength: Strength
    scheduler: Scheduler
    masked_content: MaskedContent = "original"
    size_px: int = Field(512, ge=64, le=2048, multiple_of=64, description="shortest side that is run: as trained")
    max_size_px: int = Field(1024, ge=64, le=4096, multiple_of=64, description="longest side that is run")


class Catalog(Record):
    """All models, by name; the first one is the default."""

    models: dict[str, ModelEntry] = Field(min_length=1)

    @property
    def default(self) -> str:
        return next(iter(self.models))

    def model(self, name: str) -> ModelEntry:
        """Return the entry called ``name``. Raises UnknownModel, which lists the known names."""
        try:
            return self.models[name]
        except KeyError:
            raise UnknownModel(f"There is no model {name!r}. Known models: {', '.join(self.models)}.") from None


def workers_by_model(catalog: Catalog, workers: Sequence[WorkerPresence]) -> dict[str, list[str]]:
    """Each model's name, and the names of those of ``workers`` that have it loaded."""
    return {name: [worker.name for worker in workers if name in worker.models] for name in catalog.models}


def load_catalog(path: str | None = None) -> Catalog:
    """Read a catalog file (TOML); without a path, the one that ships. Raises BadModel naming the file and the fault."""
    file = Path(path) if path else Path(__file__).with_name("catalog.toml")
    try:
        return Catalog.model_validate(tomllib.loads(file.read_text()))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadModel(f"The catalog {file} cannot be used: {error}") from error


def check_scheduler(name: str) -> str:
    """Return ``name`` if it is a known noise scheduler. Raises InvalidField, which lists the known names."""
    if name not in SCHEDULERS:
        raise InvalidField(f"scheduler: there is no {name!r}. Known schedulers: {', '.join(SCHEDULERS)}.")
    return name
