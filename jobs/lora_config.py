"""The alphas that diffusers keeps in a LoRA file's header: PEFT's config of each component, as JSON."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json, TypeAdapter, ValidationError

from jobs.errors import InvalidLora
from jobs.field_sentences import sentence_of

METADATA_KEY = "lora_adapter_metadata"


def _whole(pattern: str) -> str:
    """As ``peft.utils.other.get_pattern_key`` has it."""
    return rf"(.*\.)?({pattern})$"


def _compiles(pattern: str) -> str:
    try:
        re.compile(_whole(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a pattern for names: {error}") from None
    return pattern


Alpha = Annotated[float, Field(allow_inf_nan=False)]


class LoraConfig(BaseModel):
    """What a layer's scale depends on in ``peft.LoraConfig``. ``alpha_pattern``: regular expression -> alpha."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    lora_alpha: Alpha | None = None
    alpha_pattern: dict[Annotated[str, AfterValidator(_compiles)], Alpha] = {}
    use_rslora: bool = False

    def scale(self, names: Iterable[str], rank: int) -> float:
        """The factor of ``B @ A`` of a layer that is called by any of ``names``; 1 where no alpha is given."""
        found = (self.alpha_pattern[key] for key in self.alpha_pattern for name in names if _matches(key, name))
        alpha = next(found, self.lora_alpha)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def _matches(pattern: str, name: str) -> bool:
    return re.match(_whole(pattern), name) is not None


def configs_of(metadata: Mapping[str, str]) -> dict[str, LoraConfig]:
    """Component -> config, from a file's metadata; ``""``: of a file of the network alone. Raises InvalidLora."""
    try:
        fields = TypeAdapter(Json[dict[str, Any]]).validate_python(metadata.get(METADATA_KEY, "{}"))
        grouped: dict[str, dict[str, Any]] = {}
        for name, value in fields.items():
            component, _, field = name.rpartition(".")
            grouped.setdefault(component, {})[field] = value
        return {component: LoraConfig.model_validate(given) for component, given in grouped.items()}
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        found = f"{where[:200]}: {sentence_of(fault)}" if where else sentence_of(fault)
        raise InvalidLora(f"its {METADATA_KEY} cannot be read: {found.removesuffix('.')}") from error
