"""The models that can be asked for by name."""

import re
import tomllib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from jobs.approximations import check_caching
from jobs.errors import BadModel, InvalidField, UnknownModel
from jobs.schedulers import NOISE_LAWS, Family, Scheduler, check_scheduler, fitting_schedulers, misfit
from jobs.schema import CacheInterval, Guidance, MaskedContent, Record, Steps, Strength, WorkerPresence

Source = Literal["embedded", "file", "hub", "folder"]
FILE_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".pkl", ".gguf")
"""Of a source that is a single file. The worker reads the first kind and refuses the others by name."""

Prediction = Literal["auto", "epsilon", "v_prediction"]


class Preset(Record):
    """A few-step profile of a model, asked for by its name. What it does not say is the model's default."""

    description: str = ""
    num_inference_steps: Steps
    guidance_scale: Guidance | None = None
    scheduler: Scheduler | None = None
    strength: Strength | None = None
    cache_interval: CacheInterval | None = None


class ModelEntry(Record):
    """A model: its family, where its files are, the defaults, limits and presets of a request that names it."""

    family: Family
    source: str = Field(
        min_length=1, description='"embedded", a diffusers folder, a .safetensors file, or "org/name" on the hub'
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    config: str | None = Field(None, description="for a single file: the diffusers folder that holds its configs")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description='"auto": INFILL_DTYPE')
    prediction_type: Prediction = Field("auto", description='"auto": as the file is marked, or its configs say')
    allow_pickle: bool = Field(False, description="weights may be pickles, which can run any code: trusted files only")
    pinned: bool = Field(False, description="loaded at a worker's start and never evicted")
    description: str = ""
    num_inference_steps: Steps
    guidance_scale: Guidance
    strength: Strength
    scheduler: Scheduler
    schedulers: tuple[Scheduler, ...] | None = Field(
        None, min_length=1, description="those that a request may name; absent: all that a worker finds to fit"
    )
    masked_content: MaskedContent = "original"
    size_px: int = Field(512, ge=64, le=2048, multiple_of=64, description="shortest side that is run: as trained")
    max_size_px: int = Field(1024, ge=64, le=4096, multiple_of=64, description="longest side that is run")
    max_num_inference_steps: Steps = 200
    max_n: int = Field(8, ge=1, le=8, description="images of one job at most")
    needs_surroundings: bool = Field(False, description="paints from what surrounds a hole: a full mask is refused")
    presets: dict[str, Preset] = Field(default_factory=dict)

    @property
    def source_kind(self) -> Source:
        """What ``source`` names, by its form alone: the API cannot see the workers' disks."""
        if self.source == "embedded":
            return "embedded"
        if Path(self.source).suffix.lower() in FILE_SUFFIXES:
            return "file"
        return "hub" if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", self.source) else "folder"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.revision and self.source_kind != "hub":
            raise ValueError(f'revision: only for a source on the hub ("org/name"), not {self.source!r}')
        if self.config and self.source_kind != "file":
            raise ValueError(f"config: only for a .safetensors file, not {self.source!r}")
        if self.prediction_type != "auto" and NOISE_LAWS[self.family] != "diffusion":
            raise ValueError(f"prediction_type: only for families sd and sdxl, not {self.family!r}")
        steps = [self.num_inference_steps, *(preset.num_inference_steps for preset in self.presets.values())]
        if max(steps) > self.max_num_inference_steps:
            raise ValueError(f"max_num_inference_steps: defaults and presets go up to {max(steps)}")
        named = [(preset.scheduler or self.scheduler, preset.num_inference_steps) for preset in self.presets.values()]
        if unfit := set(self.schedulers or ()) - set(fitting_schedulers(self.family)):
            raise ValueError(f"schedulers: {misfit(min(unfit), self.family, fitting_schedulers(self.family))}")
        try:
            for scheduler, count in [(self.scheduler, self.num_inference_steps), *named]:
                check_scheduler(scheduler, self.family, count, self.schedulers)
            for preset in self.presets.values():
                check_caching(preset.cache_interval or 1, self.family)
        except InvalidField as error:
            raise ValueError(str(error)) from None
        return self

    def offered(self, found: Collection[str] | None = None) -> list[str]:
        """The schedulers that a request may name; ``found``: those that a worker has found to fit, if one has yet."""
        listed = fitting_schedulers(self.family, self.schedulers)
        return [name for name in listed if found is None or name in found]

    def unfit_scheduler(self, found: Collection[str]) -> str | None:
        """Which scheduler that the entry names is not among ``found``, those that fit the model; None if all are."""
        named: dict[str, str] = {"scheduler": self.scheduler}
        named |= {f"schedulers.{name}": name for name in self.schedulers or ()}
        named |= {f"presets.{name}.scheduler": preset.scheduler or "" for name, preset in self.presets.items()}
        unfit = {field: name for field, name in named.items() if name and name not in found}
        return next((f"{field}: {misfit(name, self.family, found)}" for field, name in unfit.items()), None)

    def preset(self, name: str) -> Preset:
        """Return the preset called ``name``. Raises InvalidField, which lists the known names."""
        try:
            return self.presets[name]
        except KeyError:
            known = f"Known presets: {', '.join(self.presets)}." if self.presets else "The model has none."
            raise InvalidField(f"preset: there is no {name!r}. {known}") from None


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
    """Each model's name, and the names of those of ``workers`` that serve it."""
    return {name: [worker.name for worker in workers if name in worker.models] for name in catalog.models}


def load_catalog(path: str | None = None) -> Catalog:
    """Read a catalog file (TOML); without a path, the one that ships. Raises BadModel naming the file and the fault."""
    file = Path(path) if path else Path(__file__).with_name("catalog.toml")
    try:
        return Catalog.model_validate(tomllib.loads(file.read_text()))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadModel(f"The catalog {file} cannot be used: {error}") from error
