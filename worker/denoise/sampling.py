"""Noise schedulers by name, one private copy for each image, started at the step that its strength gives."""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
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
from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

from jobs.errors import UnfitScheduler

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
"""A name in ``jobs.schedulers.SCHEDULERS`` -> diffusers' class and the settings that differ from its defaults."""


def new_scheduler(name: str, loaded: SchedulerMixin, seed: int) -> SchedulerMixin:
    """A fresh scheduler that shares nothing: ``step`` advances private state, so two images never share one.

    The loaded one is deep-copied where it is of the class asked for: ``from_config(config)`` drops what diffusers'
    pipelines fix up in the config after loading. ``seed`` is for DPM++ SDE, which draws its Brownian motion by itself.
    Of a class that does not clip, none is made that does: DDIM and DDPM clip by default, to the range of pixels.
    """
    scheduler_class, overrides = CLASSES[name]
    if type(loaded) is scheduler_class and not overrides:
        scheduler = copy.deepcopy(loaded)
    else:
        clips = accepted(scheduler_class.__init__, {"clip_sample": loaded.config.get("clip_sample", False)})
        scheduler = scheduler_class.from_config(loaded.config, **clips, **overrides)
    if hasattr(scheduler, "noise_sampler_seed"):
        scheduler.noise_sampler_seed = seed
    return scheduler


def begin(scheduler: SchedulerMixin, schedule: Mapping[str, Any], skipped: int) -> torch.Tensor:
    """Set the scheduler to its schedule (the arguments of ``set_timesteps``) without the first ``skipped`` steps.

    Heun's for flows knows neither given sigmas nor a shift that depends on the resolution: it makes its own schedule.

    Returns:
        The timesteps that will be run, (N,), in main memory: the device is given the numbers of each call.

    Raises:
        UnfitScheduler: the schedule of so many steps has noise levels that are no numbers.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # what comes of it is looked for below
        scheduler.set_timesteps(**accepted(scheduler.set_timesteps, schedule))
    _drop_surplus(scheduler, schedule["num_inference_steps"])
    for levels in (scheduler.timesteps, getattr(scheduler, "sigmas", scheduler.timesteps)):
        if not levels.isfinite().all():
            steps = schedule["num_inference_steps"]
            raise UnfitScheduler(f"num_inference_steps: in {steps} the model's noise levels cannot be laid out.")
    first = skipped * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timesteps: torch.Tensor = scheduler.timesteps[first:]
    return timesteps


def noise_source(
    scheduler: SchedulerMixin, generator: torch.Generator, shape: tuple[int, ...], dtype: torch.dtype
) -> Callable[..., torch.Tensor]:
    """Where the noise of a scheduler's steps comes from: main memory, so that a picture is the same on every device.

    DPM++ SDE draws by itself, for two noise levels. Call it once the scheduler has begun.
    """
    if not hasattr(scheduler, "noise_sampler"):
        return partial(torch.randn, shape, generator=generator, dtype=dtype)
    sigmas, like = scheduler.sigmas[scheduler.sigmas > 0], torch.empty(shape, dtype=dtype)
    lowest, highest = sigmas.min().item(), sigmas.max().item()
    sampler: Callable[..., torch.Tensor] = BrownianTreeNoiseSampler(like, lowest, highest, scheduler.noise_sampler_seed)
    return sampler


def _drop_surplus(scheduler: SchedulerMixin, steps: int) -> None:
    """Leave out the step at timestep -1 that diffusers' "trailing" spacing adds to some numbers of steps.

    ``arange(1000, 0, -1000 / 61)`` has 62 elements, by rounding. DDIM and DDPM take the noise level of the last one
    from the wrong end of their table.
    """
    surplus = len(scheduler.timesteps) - (scheduler.order * (steps - 1) + 1)
    if surplus > 0:
        scheduler.timesteps = scheduler.timesteps[:-surplus]
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = torch.cat([scheduler.sigmas[: -1 - surplus], scheduler.sigmas[-1:]])


def pure_noise(scheduler: SchedulerMixin, noise: torch.Tensor) -> torch.Tensor:
    """Noise alone as the latents of the step that the scheduler begins with. A flow starts from the noise itself.

    Some schedulers keep latents at a scale that shrinks from step to step: begun later, theirs is not the first one's.
    """
    first = getattr(scheduler, "begin_index", None) or 0
    if first == 0:
        return noise * getattr(scheduler, "init_noise_sigma", 1.0)
    return noise / network_scaled(scheduler, torch.ones_like(noise), scheduler.timesteps[first])


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
    """Arguments of this scheduler's ``step`` beside noise, timestep and sample, as the pipelines pass them; eta 0."""
    return accepted(scheduler.step, {"eta": 0.0, "generator": generator})


def accepted(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the offered arguments that ``function`` takes."""
    known = inspect.signature(function).parameters
    return {name: value for name, value in offered.items() if name in known}
