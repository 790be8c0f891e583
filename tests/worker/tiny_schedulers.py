"""diffusers' noise schedulers for networks of diffusion, on the noise levels of Stable Diffusion."""

from collections.abc import Callable
from typing import Any

from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSDEScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
DIFFUSION_SCHEDULERS: dict[str, Callable[[], Any]] = {
    "ddim": lambda: DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False),
    "ddpm": lambda: DDPMScheduler(**BETAS, clip_sample=False),
    "euler": lambda: EulerDiscreteScheduler(**BETAS),
    "euler_a": lambda: EulerAncestralDiscreteScheduler(**BETAS),
    "heun": lambda: HeunDiscreteScheduler(**BETAS),
    "dpmpp_2m": lambda: DPMSolverMultistepScheduler(**BETAS),
    "dpmpp_2m_karras": lambda: DPMSolverMultistepScheduler(**BETAS, use_karras_sigmas=True),
    "dpmpp_sde": lambda: DPMSolverSDEScheduler(**BETAS),
    "unipc": lambda: UniPCMultistepScheduler(**BETAS),
    "lcm": lambda: LCMScheduler(**BETAS),
}


def with_seed(scheduler: Any, seed: int) -> Any:
    """The scheduler itself, or where it draws its noise by itself, one that draws from ``seed``."""
    if "noise_sampler_seed" not in scheduler.config:
        return scheduler
    return type(scheduler).from_config(scheduler.config, noise_sampler_seed=seed)
