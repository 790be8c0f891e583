"""The noise schedulers that can be asked for by name, and which families each of them fits."""

from collections.abc import Collection

from jobs.errors import InvalidField
from jobs.families import FAMILIES, Family, Law
from jobs.schema import MAX_STEPS, Record


class NoiseScheduler(Record):
    """A noise scheduler, and the steps it can be asked for."""

    description: str
    law: Law = "diffusion"
    min_steps: int = 1
    max_steps: int = MAX_STEPS
    order: int = 1  # network calls a step; in the last step there is one

    @property
    def families(self) -> list[Family]:
        return [family for family, facts in FAMILIES.items() if facts.law == self.law]


SCHEDULERS: dict[str, NoiseScheduler] = {
    "ddim": NoiseScheduler(description="DDIM (Song et al. 2021), deterministic"),
    "ddpm": NoiseScheduler(description="DDPM (Ho et al. 2020), ancestral"),
    "euler": NoiseScheduler(description="Euler (Karras et al. 2022, algorithm 2 without churn)"),
    "euler_a": NoiseScheduler(description="Euler, ancestral"),
    "heun": NoiseScheduler(description="Heun (Karras et al. 2022), two network calls a step", order=2),
    "dpmpp_2m": NoiseScheduler(description="DPM-Solver++ 2M (Lu et al. 2022)"),
    "dpmpp_2m_karras": NoiseScheduler(description="DPM-Solver++ 2M on the Karras sigmas"),
    "dpmpp_sde": NoiseScheduler(
        description="DPM-Solver++ SDE, ancestral, two network calls a step", min_steps=2, order=2
    ),
    "unipc": NoiseScheduler(description="UniPC (Zhao et al. 2023)"),
    "lcm": NoiseScheduler(description="Latent consistency (Luo et al. 2023), for distilled networks", max_steps=50),
    "flow_euler": NoiseScheduler(description="Euler for flow matching (Esser et al. 2024)", law="flow"),
    "flow_euler_karras": NoiseScheduler(description="Euler for flow matching on the Karras sigmas", law="flow"),
    "flow_heun": NoiseScheduler(description="Heun for flow matching, two network calls a step", law="flow", order=2),
    "none": NoiseScheduler(description="No noise: the network paints in one call", law="none", max_steps=1),
}
"""``worker/denoise/sampling.py`` knows the diffusers class of each that has noise."""


def skipped_steps(steps: int, strength: float, flow: bool) -> int:
    """How many of ``steps`` steps a strength leaves out at the start, as diffusers' ``get_timesteps``.

    Its pipelines for flow matching round the steps that are run up, the others down. At least one step is run, where
    diffusers refuses.
    """
    skipped = int(steps - steps * strength) if flow else steps - int(steps * strength)
    return min(skipped, steps - 1)


def steps_run(name: str, steps: int, strength: float) -> int:
    """How many of ``steps`` steps are run at a strength."""
    return steps - skipped_steps(steps, strength, SCHEDULERS[name].law == "flow")


def network_calls(name: str, steps: int, strength: float) -> int:
    """How often a scheduler calls the network for an image."""
    scheduler = SCHEDULERS[name]
    return scheduler.order * steps_run(name, steps, strength) - (scheduler.order - 1)


def fitting_schedulers(family: Family, known: Collection[str] | None = None) -> list[str]:
    """Names of the schedulers that follow a family's law; of these those in ``known``, where a model's are known."""
    return [
        name
        for name, scheduler in SCHEDULERS.items()
        if family in scheduler.families and (known is None or name in known)
    ]


def check_scheduler(name: str, family: Family, steps: int, known: Collection[str] | None = None) -> None:
    """Raise InvalidField if there is no such scheduler, or if it does not fit the model or the number of steps.

    ``known``: names of those that fit the model's noise levels, as far as they are known.
    """
    scheduler = SCHEDULERS.get(name)
    if scheduler is None:
        raise InvalidField(f"scheduler: there is no {name!r}. Known schedulers: {', '.join(SCHEDULERS)}.")
    fitting = fitting_schedulers(family, known)
    if name not in fitting:
        raise InvalidField(f"scheduler: {misfit(name, family, fitting)}")
    if not scheduler.min_steps <= steps <= scheduler.max_steps:
        raise InvalidField(
            f"num_inference_steps: {name!r} takes {scheduler.min_steps} to {scheduler.max_steps} steps, not {steps}."
        )


def misfit(name: str, family: Family, fitting: Collection[str]) -> str:
    """A sentence: why a model does not take the scheduler ``name``, and which it takes."""
    follows = family in SCHEDULERS[name].families
    why = "whose noise levels it cannot follow" if follows else f"which is of family {family!r}"
    return f"{name!r} does not fit the model, {why}. Those that do: {', '.join(fitting) or 'none'}."
