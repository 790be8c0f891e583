"""Our denoising loop against diffusers' own pipeline: same parts, same seed, same latents."""

from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.schema import InpaintParameters
from tests.worker import tiny
from tests.worker.tiny_schedulers import with_seed
from worker.engine import Engine
from worker.families.base import Canvas
from worker.families.latent_diffusion import LatentDiffusion
from worker.state import DenoiseState

SIZE = tiny.SIZE
STEPS = 6
TOLERANCE = 1e-4
FAMILY_MODES = [(name, mode) for name, family in tiny.FAMILIES.items() for mode in family.pipelines]
FAMILY_MODE_SCHEDULERS = [
    (name, mode, scheduler) for name, mode in FAMILY_MODES for scheduler in tiny.FAMILIES[name].schedulers
]


def canvas(seed: int = 0) -> Canvas:
    """A smooth picture and a box that follows the latent grid, so that every way of shrinking it agrees."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[16:40, 8:48] = 255
    return Canvas(image, mask)


def parameters(scheduler: str, strength: float, seed: int = 7, guidance: float = 4.0, n: int = 1) -> InpaintParameters:
    return InpaintParameters(
        model="tiny",
        prompt="a cat",
        negative_prompt="blur",
        seed=seed,
        n=n,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        strength=strength,
        scheduler=scheduler,
        masked_content="original",
    )


def oracle(name: str, mode: str, wanted: InpaintParameters, pixels: Canvas) -> torch.Tensor:
    """The latents of diffusers' pipeline, (1, C, h, w)."""
    return asked(tiny.pipeline(name, mode, wanted.scheduler), name, wanted, pixels)


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


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize(("name", "mode", "scheduler"), FAMILY_MODE_SCHEDULERS)
def test_latents_equal_those_of_diffusers(
    name: str, mode: str, scheduler: str, strength: float, guidance: float
) -> None:
    wanted, pixels = parameters(scheduler, strength, guidance=guidance), canvas()
    (state,) = run_alone(tiny.model(name, mode, scheduler), wanted, pixels)
    assert difference(state.latents, oracle(name, mode, wanted, pixels)) < TOLERANCE


@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_jobs_that_join_at_different_steps_equal_the_same_jobs_run_by_diffusers(name: str, mode: str) -> None:
    schedulers = list(tiny.FAMILIES[name].schedulers)
    models = {scheduler: tiny.model(name, mode, scheduler) for scheduler in schedulers}
    jobs = [
        (parameters(scheduler, strength, seed), canvas(seed))
        for scheduler, strength, seed in zip(
            cycle(schedulers), cycle((1.0, 0.6)), range(max(3, len(schedulers))), strict=False
        )
    ]
    states = [models[wanted.scheduler].prepare(pixels, wanted, no_clock)[0] for wanted, pixels in jobs]
    engine = Engine({"tiny": models[schedulers[0]]}, max_rows=8)
    batch_sizes = []
    for state in states:
        engine.join([state])
        batch_sizes += [len(engine.step()), len(engine.step())]
    while engine.live:
        batch_sizes.append(len(engine.step()))

    assert max(batch_sizes) >= 3
    for state, (wanted, pixels) in zip(states, jobs, strict=True):
        assert difference(state.latents, oracle(name, mode, wanted, pixels)) < TOLERANCE


def test_guidance_between_equal_prompts_is_not_computed_twice_and_changes_nothing() -> None:
    wanted = parameters("ddim", 1.0, guidance=4.0).model_copy(update={"prompt": "", "negative_prompt": ""})
    (state,) = run_alone(tiny.model("sd", "concat"), wanted, canvas())
    assert not state.key.guided
    assert difference(state.latents, oracle("sd", "concat", wanted, canvas())) < TOLERANCE


def test_at_least_one_step_is_run() -> None:
    (state,) = run_alone(tiny.model("sd", "concat"), parameters("ddim", 0.01), canvas())
    assert state.steps == 1


def test_image_k_of_n_uses_seed_plus_k() -> None:
    model = tiny.model("sd", "concat")
    together = run_alone(model, parameters("ddim", 1.0, seed=5, n=2), canvas())
    alone = run_alone(model, parameters("ddim", 1.0, seed=6), canvas())
    assert difference(together[1].latents, alone[0].latents) < TOLERANCE
    assert difference(together[0].latents, alone[0].latents) > 0.1
