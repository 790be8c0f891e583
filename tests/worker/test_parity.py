"""Our denoising loop against diffusers' own pipeline: same parts, same seed, same latents."""

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.schema import InpaintParameters
from tests.worker import tiny
from worker.engine import Engine
from worker.families.base import Canvas
from worker.families.sd import StableDiffusion
from worker.state import DenoiseState

SIZE = 64
STEPS = 6
TOLERANCE = 1e-4


def canvas(seed: int = 0) -> Canvas:
    """A smooth picture and a box that follows the latent grid, so that every way of shrinking it agrees."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[16:40, 8:48] = 255
    return Canvas(image, image, mask)


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


def oracle(in_channels: int, wanted: InpaintParameters, pixels: Canvas) -> torch.Tensor:
    """The latents of diffusers' pipeline, (1, 4, h, w)."""
    result = tiny.pipeline(in_channels, wanted.scheduler)(
        prompt=wanted.prompt,
        negative_prompt=wanted.negative_prompt,
        image=Image.fromarray(pixels.image),
        mask_image=Image.fromarray(pixels.mask),
        height=SIZE,
        width=SIZE,
        num_inference_steps=wanted.num_inference_steps,
        guidance_scale=wanted.guidance_scale,
        strength=wanted.strength,
        generator=torch.Generator("cpu").manual_seed(wanted.seed),
        output_type="latent",
    )
    return result.images


def family(in_channels: int, scheduler: str) -> StableDiffusion:
    return StableDiffusion("tiny", tiny.pipeline(in_channels, scheduler))


def no_clock(phase: str) -> None:
    """Nobody measures here."""


def run_alone(model: StableDiffusion, wanted: InpaintParameters, pixels: Canvas) -> list[DenoiseState]:
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
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpmpp_2m"])
@pytest.mark.parametrize("in_channels", [9, 4])
def test_latents_equal_those_of_diffusers(in_channels: int, scheduler: str, strength: float, guidance: float) -> None:
    wanted, pixels = parameters(scheduler, strength, guidance=guidance), canvas()
    (state,) = run_alone(family(in_channels, scheduler), wanted, pixels)
    assert difference(state.latents, oracle(in_channels, wanted, pixels)) < TOLERANCE


@pytest.mark.parametrize("in_channels", [9, 4])
def test_jobs_that_join_at_different_steps_equal_the_same_jobs_run_by_diffusers(in_channels: int) -> None:
    models = {name: family(in_channels, name) for name in ("ddim", "euler", "dpmpp_2m")}
    model = models["ddim"]
    jobs = [
        (parameters(name, strength, seed), canvas(seed))
        for name, strength, seed in (("ddim", 1.0, 1), ("euler", 0.6, 2), ("dpmpp_2m", 1.0, 3))
    ]
    states = [models[wanted.scheduler].prepare(pixels, wanted, no_clock)[0] for wanted, pixels in jobs]
    engine = Engine({"tiny": model}, max_rows=8)
    batch_sizes = []
    for state in states:
        engine.join([state])
        batch_sizes += [len(engine.step()), len(engine.step())]
    while engine.live:
        batch_sizes.append(len(engine.step()))

    assert max(batch_sizes) == 3
    for state, (wanted, pixels) in zip(states, jobs, strict=True):
        assert difference(state.latents, oracle(in_channels, wanted, pixels)) < TOLERANCE


def test_guidance_between_equal_prompts_is_not_computed_twice_and_changes_nothing() -> None:
    wanted = parameters("ddim", 1.0, guidance=4.0).model_copy(update={"prompt": "", "negative_prompt": ""})
    (state,) = run_alone(family(9, "ddim"), wanted, canvas())
    assert not state.key.guided
    assert difference(state.latents, oracle(9, wanted, canvas())) < TOLERANCE


def test_at_least_one_step_is_run() -> None:
    (state,) = run_alone(family(9, "ddim"), parameters("ddim", 0.01), canvas())
    assert state.steps == 1


def test_image_k_of_n_uses_seed_plus_k() -> None:
    model = family(9, "ddim")
    together = run_alone(model, parameters("ddim", 1.0, seed=5, n=2), canvas())
    alone = run_alone(model, parameters("ddim", 1.0, seed=6), canvas())
    assert difference(together[1].latents, alone[0].latents) < TOLERANCE
    assert difference(together[0].latents, alone[0].latents) > 0.1
