"""Noise schedulers by name, one private copy for each image, begun at the step its strength says."""

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSDEScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

CLASSES: dict[str, tuple[type[SchedulerMixin], dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "ddpm": (DDPMScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "dpmpp_sde": (DPMSolverSDEScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
    "lcm": (LCMScheduler, {}),
    "flow_euler": (FlowMatchEulerDiscreteScheduler, {}),
    "flow_euler_karras": (FlowMatchEulerDiscreteScheduler, {"use_karras_sigmas": True}),
    "flow_heun": (FlowMatchHeunDiscreteScheduler, {}),
}
"""jobs.schedulers.SCHEDULERS' names -> diffusers class and the settings it differs by."""


def new_scheduler(name: str, loaded: SchedulerMixin, seed: int) -> SchedulerMixin:
    """A fresh scheduler that shares nothing: ``step`` advances private state, so one may never serve two images.

    The loaded one is deep-copied where it is of the class asked for: ``from_config(config)`` drops what diffusers'
    pipelines fix up in the config after loading. ``seed`` is for DPM++ SDE, which draws its Brownian motion by itself.
    """
    scheduler_class, overrides = CLASSES[name]
    same = type(loaded) is scheduler_class and not overrides
    scheduler = copy.deepcopy(loaded) if same else scheduler_class.from_config(loaded.config, **overrides)
    if hasattr(scheduler, "noise_sampler_seed"):
        scheduler.noise_sampler_seed = seed
    return scheduler


def begin(scheduler: SchedulerMixin, schedule: Mapping[str, Any], skipped: int, device: torch.device) -> torch.Tensor:
    """Set the scheduler to its schedule (the arguments of ``set_timesteps``) without the first ``skipped`` steps.

    Heun's for flows knows neither given sigmas nor a shift that depends on the resolution: it makes its own schedule.

    Returns:
        The timesteps that will be run, (N,).
    """
    scheduler.set_timesteps(**accepted(scheduler.set_timesteps, schedule), device=device)
    first = skipped * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timesteps: torch.Tensor = scheduler.timesteps[first:]
    return timesteps


def pure_noise(scheduler: SchedulerMixin, noise: torch.Tensor) -> torch.Tensor:
    """Latents to start from at full strength. A flow starts from the noise itself."""
    return noise * getattr(scheduler, "init_noise_sigma", 1.0)


def noised(scheduler: SchedulerMixin, clean: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """``clean`` at the noise level of ``timestep``, (1,): with noise added or, by a flow, moved towards the noise."""
    if hasattr(scheduler, "scale_noise"):
        return torch.as_tensor(scheduler.scale_noise(clean, timestep, noise))
    return torch.as_tensor(scheduler.add_noise(clean, noise, timestep))


def network_scaled(scheduler: SchedulerMixin, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """Latents as the network expects them; only some schedulers keep them at another scale."""
    if not hasattr(scheduler, "scale_model_input"):
        return latents
    return torch.as_tensor(scheduler.scale_model_input(latents, timestep))


def step_arguments(scheduler: SchedulerMixin, generator: torch.Generator) -> dict[str, Any]:
    """What this scheduler's ``step`` takes beside noise, timestep and sample: as the pipelines do, with eta 0."""
    return accepted(scheduler.step, {"eta": 0.0, "generator": generator})


def accepted(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the offered arguments that ``function`` knows."""
    known = inspect.signature(function).parameters
    return {name: value for name, value in offered.items() if name in known}
