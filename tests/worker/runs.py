"""A tiny model's denoising of one job, by our loop and by diffusers' pipeline."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from jobs.schema import InpaintParameters
from tests.factories import inpaint_parameters, mask_with
from tests.worker import tiny
from tests.worker.tiny_schedulers import with_seed
from worker.denoise.state import DenoiseState
from worker.engine.engine import Engine
from worker.families.latent_diffusion import LatentDiffusion
from worker.pixels.canvas import Canvas

SIZE = tiny.SIZE
STEPS = 6
TOLERANCE = 1e-4
FAMILY_MODES = [(name, mode) for name, family in tiny.FAMILIES.items() for mode in family.pipelines]


def canvas(seed: int = 0) -> Canvas:
    """A smooth picture and a box that follows the latent grid, so that every way of shrinking it agrees."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    mask = mask_with(np.s_[16:40, 8:48], (SIZE, SIZE))
    return Canvas(image, mask)


def soft_canvas(value: int) -> Canvas:
    pixels = canvas()
    mask = pixels.mask.copy()
    mask[mask > 0] = value
    return Canvas(pixels.image, mask)


def parameters(scheduler: str, strength: float, seed: int = 7, guidance: float = 4.0, n: int = 1) -> InpaintParameters:
    return inpaint_parameters(
        prompt="a cat",
        negative_prompt="blur",
        seed=seed,
        n=n,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        strength=strength,
        scheduler=scheduler,
    )


def oracle(name: str, mode: str, wanted: InpaintParameters, pixels: Canvas) -> torch.Tensor:
    """The latents of diffusers' pipeline, (1, C, h, w)."""
    pipeline = tiny.shared_pipeline(name, mode)
    pipeline.scheduler = tiny.FAMILIES[name].schedulers[wanted.scheduler]()
    return asked(pipeline, name, wanted, pixels)


def asked(pipeline: Any, name: str, wanted: InpaintParameters, pixels: Canvas) -> torch.Tensor:
    family = tiny.FAMILIES[name]
    pipeline.scheduler = with_seed(pipeline.scheduler, wanted.seed)
    result = pipeline(
        **family.arguments(wanted),
        prompt=wanted.prompt,
        image=Image.fromarray(pixels.image),
        mask_image=Image.fromarray(pixels.mask),
        height=SIZE,
        width=SIZE,
        num_inference_steps=wanted.num_inference_steps,
        strength=wanted.strength,
        generator=torch.Generator("cpu").manual_seed(wanted.seed),
        output_type="latent",
    )
    return family.unpacked(result.images)


def no_clock(phase: str) -> None:
    """Nobody measures here."""


def run_alone(model: LatentDiffusion, wanted: InpaintParameters, pixels: Canvas) -> list[DenoiseState]:
    states = model.prepare(pixels, wanted, no_clock)
    engine = Engine({"tiny": model}, max_rows=8)
    engine.join(states)
    while engine.live:
        engine.step()
    assert not [state.error for state in states if state.error]
    return states


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())
