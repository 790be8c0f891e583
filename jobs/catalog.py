"""The models that can be asked for by name."""

import re
import secrets
import tomllib
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from jobs.approximations import check_caching
from jobs.errors import BadModel, InvalidField, UnknownModel
from jobs.families import FAMILIES, Family, Recipe, Sampling
from jobs.feedforward import FIXED_SIZE, Convention, check_entry, check_request
from jobs.outputs import check_depth, quality_of
from jobs.prompt_syntax import with_checked_prompts
from jobs.schedulers import check_scheduler, fitting_schedulers, misfit
from jobs.schema import (
    MAX_SEED,
    CacheInterval,
    Common,
    Guidance,
    InpaintParameters,
    InpaintRequest,
    MaskedContent,
    Record,
    Scheduler,
    Steps,
    Strength,
    Task,
    WorkerPresence,
)
from jobs.segmenters import SegmenterEntry, search_of

Source = Literal["embedded", "file", "hub", "folder"]
FILE_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".pkl", ".gguf")
"""Of a source that is a single file. The worker reads the first kind and refuses the others by name."""

OF_THE_FAMILY = {"max_num_inference_steps", "max_n", "needs_surroundings", "hires_strength", "hires_tiles"}
"""Fields that an entry takes from its family, beside its defaults and sizes."""

Prediction = Literal["auto", "epsilon", "v_prediction"]

ALIASES = ("gpt-image-*", "chatgpt-image-*", "dall-e-*")
"""Aliases of the first model, where a catalog has no table of its own: the names that OpenAI's clients send."""


class Preset(Sampling):
    """A few-step profile of a model, asked for by its name. What it leaves out is the model's default."""

    description: str = ""
    num_inference_steps: Steps


class TaskRecipe(Recipe):
    """What the catalog says of a task. What it leaves out is the family's recipe for it."""

    model: str | None = Field(None, description="the model that does it for requests that name none")


class ModelEntry(Sampling):
    """A model: its family, where its files are, the defaults, limits and presets of a request that names it.

    What an entry leaves out of ``Sampling``, and its sizes, are the family's.
    """

    family: Family
    source: str = Field(
        min_length=1, description='"embedded", a diffusers folder, a .safetensors file, or "org/name" on the hub'
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    config: str | None = Field(None, description="for a single file: the diffusers folder that holds its configs")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description='"auto": INFILL_DTYPE')
    prediction_type: Prediction = Field("auto", description='"auto": as the file is marked, or its configs say')
    convention: Convention | None = Field(None, description="of family feedforward: how picture and mask go in and out")
    allow_pickle: bool = Field(
        False, description="weights may be pickles or TorchScript, which can run any code: trusted files only"
    )
    pinned: bool = Field(False, description="loaded at a worker's start and never evicted")
    description: str = ""
    num_inference_steps: Steps
    guidance_scale: Guidance
    strength: Strength
    scheduler: Scheduler
    masked_content: MaskedContent
    cache_interval: CacheInterval
    schedulers: tuple[Scheduler, ...] | None = Field(
        None, min_length=1, description="those that a request may name; absent: all that a worker finds to fit"
    )
    size_px: int = Field(ge=64, le=2048, multiple_of=64, description="shortest side that is run: as trained")
    max_size_px: int = Field(ge=64, le=4096, multiple_of=64, description="longest side that is run")
    max_num_inference_steps: Steps
    max_n: int = Field(ge=1, le=8, description="images of one job at most")
    needs_surroundings: bool = Field(description="paints from what surrounds a hole: a full mask is refused")
    hires_strength: Strength = Field(description="of tiles that are run over an enlarged fill, at most")
    hires_tiles: int = Field(ge=0, le=64, description="tiles that a request gets without asking for them, at most")
    max_hires_tiles: int = Field(32, ge=0, le=256, description="tiles of one job at most, of all its images together")
    presets: dict[str, Preset] = Field(default_factory=dict)
    tasks: dict[Literal["remove", "extend"], TaskRecipe] = Field(
        default_factory=dict, validate_default=True, description="how it does them"
    )

    @property
    def sides(self) -> tuple[int, int]:
        """The shortest and the longest canvas side."""
        return self.size_px, self.max_size_px

    @property
    def source_kind(self) -> Source:
        """What ``source`` names, by its form alone: the API cannot see the workers' disks."""
        if self.source == "embedded":
            return "embedded"
        if Path(self.source).suffix.lower() in FILE_SUFFIXES:
            return "file"
        return "hub" if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", self.source) else "folder"

    @model_validator(mode="before")
    @classmethod
    def _take_after_the_family(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("family") not in FAMILIES:
            return data  # the field itself is refused
        facts = FAMILIES[data["family"]]
        size_px = data.get("size_px") or facts.size_px
        max_size_px = size_px if data.get("convention") in FIXED_SIZE else max(facts.max_size_px, size_px)
        own = facts.model_dump(include=OF_THE_FAMILY) | facts.defaults.model_dump()
        tasks = dict(data.get("tasks") or {})
        for task, recipe in {"remove": facts.remove, "extend": facts.extend}.items():
            if isinstance(given := tasks.get(task, {}), dict):
                tasks[task] = {**recipe.model_dump(exclude_none=True), **given}
        return {**own, "size_px": size_px, "max_size_px": max_size_px, **data, "tasks": tasks}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.revision and self.source_kind != "hub":
            raise ValueError(f'revision: only for a source on the hub ("org/name"), not {self.source!r}')
        check_entry(self)
        if self.config and self.source_kind != "file":
            raise ValueError(f"config: only for a .safetensors file, not {self.source!r}")
        if self.prediction_type != "auto" and FAMILIES[self.family].law != "diffusion":
            raise ValueError(f"prediction_type: only for families sd and sdxl, not {self.family!r}")
        if self.tasks["extend"].mask_grow:
            raise ValueError("tasks.extend.mask_grow: an extension leaves the photo as it is, up to its edge")
        profiles: list[Sampling] = [self, *self.presets.values(), *self.tasks.values()]
        steps = [profile.num_inference_steps or self.num_inference_steps for profile in profiles]
        if max(steps) > self.max_num_inference_steps:
            raise ValueError(f"max_num_inference_steps: defaults, presets and tasks go up to {max(steps)}")
        if unfit := set(self.schedulers or ()) - set(fitting_schedulers(self.family)):
            raise ValueError(f"schedulers: {misfit(min(unfit), self.family, fitting_schedulers(self.family))}")
        try:
            for profile, count in zip(profiles, steps, strict=True):
                check_scheduler(profile.scheduler or self.scheduler, self.family, count, self.schedulers)
                check_caching(profile.cache_interval or 1, self.family)
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
        named |= {f"tasks.{name}.scheduler": recipe.scheduler or "" for name, recipe in self.tasks.items()}
        unfit = {field: name for field, name in named.items() if name and name not in found}
        return next((f"{field}: {misfit(name, self.family, found)}" for field, name in unfit.items()), None)

    def resolve(self, model: str, request: InpaintRequest) -> InpaintParameters:
        """All parameters of a request to this entry, called ``model``: the request's own fields, else those of its
        preset, else of its task's recipe, else the entry's; without a seed, a random one.

        Raises InvalidField: there is no such preset, scheduler or quality, or the model does not go so far.
        """
        check_request(model, self, request)
        chosen: dict[str, Any] = {}
        recipe = self.tasks[request.task] if request.task in ("remove", "extend") else Recipe()
        for each in (self, recipe, self.preset(request.preset) if request.preset else Sampling(), request):
            chosen |= each.model_dump(include=set(Sampling.model_fields), exclude_none=True)
        rest = request.model_dump(include=set(Common.model_fields))
        left_out = Common.model_fields.keys() - request.model_fields_set
        rest |= recipe.model_dump(include=left_out, exclude_none=True)
        rest["output_quality"] = quality_of(request.output_format, request.output_quality)
        seed = secrets.randbelow(last_seed(request.n) + 1) if request.seed is None else request.seed
        parameters = InpaintParameters.model_validate({**rest, **chosen, "model": model, "seed": seed})
        check_scheduler(parameters.scheduler, self.family, parameters.num_inference_steps, self.schedulers)
        check_caching(parameters.cache_interval, self.family)
        check_depth(parameters.output_format, parameters.bit_depth)
        self._check_limits(parameters)
        return with_checked_prompts(parameters, self.family)

    def _check_limits(self, parameters: InpaintParameters) -> None:
        """Raise InvalidField for what the entry does not allow, and for seeds that would not be."""
        limits = {"num_inference_steps": self.max_num_inference_steps, "n": self.max_n}
        for name, limit in limits.items():
            if getattr(parameters, name) > limit:
                raise InvalidField(f"{name}: model {parameters.model!r} takes at most {limit}.")
        if parameters.seed > last_seed(parameters.n):
            raise InvalidField(
                f"seed, n: image k of n uses seed + k, and {parameters.seed} + {parameters.n - 1} is above {MAX_SEED}. "
                f"With n={parameters.n} send a seed up to {last_seed(parameters.n)}."
            )

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
    aliases: dict[str, str] = Field(
        default_factory=lambda read: dict.fromkeys(ALIASES, next(iter(read["models"]))),
        description="pattern of the names that clients of other services send (* any text, ? a character) -> model",
    )

    segmenters: dict[str, SegmenterEntry] = Field(
        default_factory=dict, description="what finds words in a photo; named by mask_model"
    )

    @model_validator(mode="after")
    def _names_are_of_one(self) -> Self:
        if both := self.models.keys() & self.segmenters.keys():
            raise ValueError(f"segmenters: {min(both)!r} is a model's name; name it otherwise")
        return self

    @model_validator(mode="after")
    def _aliases_name_models(self) -> Self:
        for pattern, name in self.aliases.items():
            if name not in self.models:
                known = ", ".join(self.models)
                raise ValueError(f"aliases: {pattern!r} stands for {name!r}, which is no model. Known models: {known}")
        return self

    @model_validator(mode="after")
    def _tasks_name_models(self) -> Self:
        for name, entry in self.models.items():
            for task, recipe in entry.tasks.items():
                if recipe.model and recipe.model not in self.models:
                    raise ValueError(f"models.{name}.tasks.{task}.model: there is no model {recipe.model!r}")
                then = recipe.model and self.models[recipe.model].tasks[task].model
                if then and then != recipe.model:
                    raise ValueError(
                        f"models.{name}.tasks.{task}.model: model {recipe.model!r} leaves it to {then!r} in turn; name "
                        "the model that does it"
                    )
        return self

    @property
    def default(self) -> str:
        return next(iter(self.models))

    def model(self, name: str) -> ModelEntry:
        """Return the entry called ``name``. Raises UnknownModel, which lists the known names."""
        try:
            return self.models[name]
        except KeyError:
            raise UnknownModel(f"There is no model {name!r}. Known models: {', '.join(self.models)}.") from None

    def resolve_alias(self, name: str) -> str:
        """The model that a client of another service means: the one of that very name, else that of the first alias
        whose pattern matches; a name that is neither comes back as it is. Only dialects ask.
        """
        if name in self.models:
            return name
        return next((model for pattern, model in self.aliases.items() if fnmatchcase(name, pattern)), name)

    def resolve(self, request: InpaintRequest) -> InpaintParameters:
        """All parameters of a request. Raises UnknownModel, InvalidField."""
        name = self.model_for(request.model, request.task)
        parameters = self.model(name).resolve(name, request)
        if found := search_of(self.segmenters, request):
            parameters = parameters.model_copy(update={"find": found})
        if request.model is None and name != self.default:
            return parameters.model_copy(update={"instead_of": self.default})
        return parameters

    def model_for(self, model: str | None, task: Task) -> str:
        """Who runs a request for ``model``; without one the default, or whom that leaves the task to."""
        if model is None and task in ("remove", "extend"):
            return self.models[self.default].tasks[task].model or self.default
        return model or self.default


def last_seed(n: int) -> int:
    """The largest seed whose ``n`` images all have one that can be sent again."""
    return MAX_SEED - (n - 1)


def workers_by_model(catalog: Catalog, workers: Sequence[WorkerPresence]) -> dict[str, list[str]]:
    """The name of each model and segmenter, and the names of those of ``workers`` that serve it."""
    names = (*catalog.models, *catalog.segmenters)
    return {name: [worker.name for worker in workers if name in worker.models] for name in names}


def load_catalog(path: str | None = None) -> Catalog:
    """Read a catalog file (TOML); without a path, the one that ships. Raises BadModel naming the file and the fault."""
    file = Path(path) if path else Path(__file__).with_name("catalog.toml")
    try:
        return Catalog.model_validate(tomllib.loads(file.read_text()))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadModel(f"The catalog {file} cannot be used: {error}") from error
