"""Networks without denoising: image with its hole and mask in, picture out, in one call (LaMa, MI-GAN).

Their family has no prompt, noise, steps or adapters. What would set these is refused, in a request and in the catalog.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from jobs.errors import InvalidField
from jobs.families import FAMILIES, Sampling
from jobs.schema import InpaintRequest

if TYPE_CHECKING:
    from jobs.catalog import ModelEntry

Convention = Literal["lama", "migan"]
"""How a network takes the picture and the mask and returns the picture: ``worker/families/feedforward.py``."""

FIXED_SIZE: tuple[Convention, ...] = ("migan",)
"""Those whose networks run at one size, a square."""

LIMITS = ("max_num_inference_steps", "max_n", "hires_strength", "hires_tiles")

UNUSED = ("prompt", "negative_prompt", "prompt_syntax", *Sampling.model_fields, "loras", "hires")
"""Request fields that such a network does nothing with."""


def unused_fields(entry: "ModelEntry") -> tuple[str, ...]:
    """Request fields that a model does nothing with, and that are refused with another value than its own."""
    return () if FAMILIES[entry.family].denoises else UNUSED


def check_request(model: str, entry: "ModelEntry", request: InpaintRequest) -> None:
    """Raise InvalidField for what a request sends and a network that paints in one call does nothing with."""
    own: Mapping[str, Any] = {name: getattr(entry, name, InpaintRequest.model_fields[name].default) for name in UNUSED}
    own = {**own, "hires": "off"}  # a tile is changed by a strength, which there is none of
    sent = [name for name in unused_fields(entry) if getattr(request, name) not in (None, own[name])]
    if sent:
        raise InvalidField(
            f"{', '.join(sent)}: model {model!r} paints in one call from what surrounds the hole, and has no use for "
            "this. Leave it out, or name a model whose unused_fields in /v1/models do not have it."
        )
    if not FAMILIES[entry.family].denoises and request.n > 1:
        raise InvalidField(f"n: model {model!r} draws nothing at random, so all images would be the same. Send n=1.")


def check_entry(entry: "ModelEntry") -> None:
    """Raise ValueError for a catalog entry that does not fit its family in what concerns such networks."""
    if FAMILIES[entry.family].denoises:
        if entry.convention:
            raise ValueError(f"convention: only for family 'feedforward', not {entry.family!r}")
        return
    if entry.convention is None:
        raise ValueError("convention: say how the network takes picture and mask: 'lama' or 'migan'")
    if entry.source_kind != "file" or not entry.source.lower().endswith((".pt", ".pth")):
        raise ValueError(f"source: family 'feedforward' is read from a TorchScript file (.pt), not {entry.source!r}")
    if not entry.allow_pickle:
        raise ValueError(
            "allow_pickle: TorchScript is a program, which can do what this process can. If you trust the file, say "
            "allow_pickle = true"
        )
    if entry.convention in FIXED_SIZE and entry.size_px != entry.max_size_px:
        raise ValueError(f"max_size_px: convention {entry.convention!r} runs at one size, size_px = {entry.size_px}")
    for field, given in _settable(entry).items():
        if given not in (None, _own(entry, field)):
            raise ValueError(f"{field}: a network of family 'feedforward' has no use for {given!r}; leave it out")


def _settable(entry: "ModelEntry") -> dict[str, Any]:
    """All that an entry says and such a network does nothing with, by the field's place in the entry."""
    named = ("config", "prediction_type", "schedulers", "presets", *LIMITS, *Sampling.model_fields)
    found = {name: getattr(entry, name) for name in named}
    for task, recipe in entry.tasks.items():
        asked = {name: getattr(recipe, name) for name in (*Sampling.model_fields, "negative_prompt")}
        found |= {f"tasks.{task}.{name}": value for name, value in asked.items()}
    return {**found, "dtype": None if entry.dtype == "auto" else entry.dtype}


def _own(entry: "ModelEntry", field: str) -> Any:
    """The one value that a field may have."""
    facts, name = FAMILIES[entry.family], field.rpartition(".")[2]
    fixed = {"dtype": "float32", "prediction_type": "auto", "presets": {}} | facts.model_dump(include=set(LIMITS))
    return getattr(facts.defaults, name, fixed.get(name))
