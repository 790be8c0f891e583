"""The web UI's samplers and schedules, and the noise schedulers that they are here."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from jobs.catalog import ModelEntry
from jobs.errors import InvalidField
from jobs.schema import Scheduler

if TYPE_CHECKING:
    from app.dialects.a1111.fields import Img2Img

AUTOMATIC = ("", "automatic", "normal", "uniform", "simple", "use same scheduler")
KARRAS = "karras"

SAMPLERS: dict[str, tuple[Scheduler, tuple[str, ...]]] = {
    "Euler": ("euler", ("k_euler",)),
    "Euler a": ("euler_a", ("k_euler_a", "k_euler_ancestral")),
    "Heun": ("heun", ("k_heun",)),
    "DPM++ 2M": ("dpmpp_2m", ("k_dpmpp_2m",)),
    "DPM++ SDE": ("dpmpp_sde", ("k_dpmpp_sde",)),
    "DDIM": ("ddim", ("ddim",)),
    "DDPM": ("ddpm", ("ddpm",)),
    "UniPC": ("unipc", ("unipc",)),
    "LCM": ("lcm", ("k_lcm",)),
}
"""The web UI's name -> ours, and its aliases."""

FLOW: dict[Scheduler, Scheduler] = {"euler": "flow_euler", "heun": "flow_heun"}
"""What a sampler is for a model whose noise is a flow."""

DEFAULTS = ("Euler a", "Euler")
"""What clients send, or leave out, without having chosen anything."""


def scheduler_for(
    fields: "Img2Img", entry: ModelEntry, offered: Collection[str]
) -> tuple[Scheduler | None, str, str | None]:
    """Our scheduler (None: the model's own), the sampler's name for the report, and a note if it is another one.

    ``offered``: those that fit the model. Raises InvalidField for a sampler or schedule that is not here, or not among
    them.
    """
    asked = fields.sampler_name or fields.sampler_index
    if not asked:
        if (fields.scheduler or "").strip().lower() not in AUTOMATIC:
            raise InvalidField("scheduler: a schedule belongs to a sampler. Send sampler_name too, or neither.")
        return None, _name_of(entry.scheduler), None
    name, schedule = _split(asked, fields.scheduler)
    found: Scheduler = SAMPLERS[name][0]
    automatic = schedule in ("", "automatic") and "dpmpp_2m_karras" in offered  # the web UI's choice for it
    if found == "dpmpp_2m" and (schedule == KARRAS or automatic):
        found = "dpmpp_2m_karras"
    elif schedule not in AUTOMATIC:
        raise InvalidField(f"scheduler: {name} is run here with the schedule 'automatic'. Leave it out.")
    if found not in offered:
        found = FLOW.get(found, found)
    if found in offered:
        return found, name, None
    if name in DEFAULTS:
        return None, _name_of(entry.scheduler), f"{name} does not fit the model, which ran with its own"
    raise InvalidField(f"sampler_name: {name} does not fit the model. Those that do: {', '.join(fitting(offered))}.")


def fitting(offered: Collection[str]) -> list[str]:
    """The web UI's names of samplers that are among these schedulers of ours."""
    return [name for name, (ours, _) in SAMPLERS.items() if {ours, FLOW.get(ours)} & set(offered)]


def _split(asked: str, schedule: str | None) -> tuple[str, str]:
    """A sampler's name as ``SAMPLERS`` has it, and the schedule: old names hold both, as in DPM++ 2M Karras."""
    text, schedule = asked.strip().lower(), (schedule or "").strip().lower()
    if text.endswith(f" {KARRAS}"):
        text, schedule = text.removesuffix(f" {KARRAS}"), KARRAS
    for name, (_, aliases) in SAMPLERS.items():
        if text == name.lower() or text in aliases:
            return name, schedule
    raise InvalidField(f"sampler_name: there is no {asked[:50]!r}. The samplers are {', '.join(SAMPLERS)}.")


def _name_of(scheduler: str) -> str:
    plain = scheduler.removeprefix("flow_").removesuffix("_karras")
    return next((name for name, (ours, _) in SAMPLERS.items() if ours == plain), scheduler)
