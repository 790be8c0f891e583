"""Noise schedulers by name, one private copy for each image, begun at the step its strength says."""

import copy
import inspect
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

CLASSES: dict[str, tuple[type[SchedulerMixin], dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "ddpm": (DDPMScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "unipc": (UniPCMultistepScheduler, {}),
}
"""jobs.catalog.SCHEDULERS' names -> diffusers class and the settings it differs by."""


def new_scheduler(name: str, loaded: SchedulerMixin) -> SchedulerMixin:
    """A fresh scheduler that shares nothing: ``step`` advances private state, so one may never serve two images.

    The loaded one is deep-copied where it is of the class asked for: ``from_config(config)`` drops what diffusers'
    pipelines fix up in the config after loading.
    """
    scheduler_class, overrides = CLASSES[name]
    if type(loaded) is scheduler_class and not overrides:
        return copy.deepcopy(loaded)
    return scheduler_class.from_config(loaded.config, **overrides)


def begin(scheduler: SchedulerMixin, steps: int, strength: float, device: torch.device) -> torch.Tensor:
    """Set the scheduler to the last ``int(steps * strength)`` of ``steps`` steps, as diffusers' ``get_timesteps``.

    At least one step is run, where diffusers refuses.

    Returns:
        The timesteps that will be run, (N,); N is a multiple of the scheduler's order.
    """
    scheduler.set_timesteps(steps, device=device)
    skipped = (steps - max(1, min(int(steps * strength), steps))) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)
    timesteps: torch.Tensor = scheduler.timesteps[skipped:]
    return timesteps


def step_arguments(scheduler: SchedulerMixin, generator: torch.Generator) -> dict[str, Any]:
    """What this scheduler's ``step`` takes beside noise, timestep and sample: as the pipelines do, with eta 0."""
    accepted = inspect.signature(scheduler.step).parameters
    offered = {"eta": 0.0, "generator": generator}
    return {name: value for name, value in offered.items() if name in accepted}
