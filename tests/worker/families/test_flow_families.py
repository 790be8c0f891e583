"""What is particular to the flow-matching transformers: their tokens, schedules, ways of guidance and VAEs."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchHeunDiscreteScheduler, FluxInpaintPipeline
from diffusers.pipelines.flux.pipeline_flux_inpaint import calculate_shift
from PIL import Image

from jobs.errors import BadModel
from jobs.schema import InpaintParameters
from tests.factories import mask_with
from tests.worker import tiny
from tests.worker.runs import TOLERANCE, asked, canvas, difference, no_clock, oracle, parameters, run_alone
from worker.engine.engine import Engine
from worker.families.flow import pack, resolution_shift, unpack
from worker.families.flux import Flux
from worker.families.latent_diffusion import LatentDiffusion
from worker.pixels.canvas import Canvas

TOKEN_FAMILIES = [("flux", "concat"), ("flux", "recompose"), ("qwen-image", "recompose")]
EULER = tiny.SHIFTED_SCHEDULERS["flow_euler"]


def wide_canvas() -> Canvas:
    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (8, 16, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    mask = mask_with(np.s_[16:40, 56:112], (64, 128))
    return Canvas(image, mask)


def asked_for(
    pipeline: Any, name: str, wanted: InpaintParameters, pixels: Canvas, output_type: str = "latent", **more: Any
) -> Any:
    """What diffusers' pipeline makes of any shape of picture, in its own form."""
    height, width = pixels.mask.shape
    return pipeline(
        **tiny.FAMILIES[name].arguments(wanted),
        **more,
        prompt=wanted.prompt,
        image=Image.fromarray(pixels.image),
        mask_image=Image.fromarray(pixels.mask),
        height=height,
        width=width,
        num_inference_steps=wanted.num_inference_steps,
        strength=wanted.strength,
        generator=torch.Generator("cpu").manual_seed(wanted.seed),
        output_type=output_type,
    ).images


def run_together(model: LatentDiffusion, jobs: list[InpaintParameters]) -> list[torch.Tensor]:
    """Each job joins the others two steps later; all have left in the end."""
    states = [model.prepare(canvas(), wanted, no_clock)[0] for wanted in jobs]
    engine = Engine({"tiny": model}, max_rows=8)
    sizes = []
    for state in states:
        engine.join([state])
        sizes += [len(engine.step()), len(engine.step())]
    while engine.live:
        sizes.append(len(engine.step()))
    assert max(sizes) == len(jobs) and not [state.error for state in states if state.error]
    return [state.latents for state in states]


def test_tokens_are_those_of_diffusers_and_can_be_undone() -> None:
    latents = torch.randn(2, 16, 6, 10)
    tokens = FluxInpaintPipeline._pack_latents(latents, 2, 16, 6, 10)
    assert torch.equal(pack(latents), tokens)
    assert torch.equal(unpack(tokens, (6, 10)), latents)


@pytest.mark.parametrize("grid", [(32, 32), (64, 96), (128, 128)])
def test_the_shift_grows_with_the_picture_as_in_diffusers(grid: tuple[int, int]) -> None:
    assert resolution_shift(EULER(), grid) == pytest.approx(calculate_shift(grid[0] * grid[1] // 4))


@pytest.mark.parametrize(("name", "mode"), TOKEN_FAMILIES)
def test_pictures_that_are_not_square_equal_diffusers_too(name: str, mode: str) -> None:
    wanted, pixels = parameters("flow_euler", 0.6), wide_canvas()
    (state,) = run_alone(tiny.model(name, mode, "flow_euler"), wanted, pixels)
    theirs = asked_for(tiny.pipeline(name, mode, "flow_euler"), name, wanted, pixels)
    assert difference(pack(state.latents), theirs) < TOLERANCE


@pytest.mark.parametrize(("name", "mode"), TOKEN_FAMILIES)
def test_the_decoded_picture_is_that_of_diffusers(name: str, mode: str) -> None:
    model, wanted = tiny.model(name, mode, "flow_euler"), parameters("flow_euler", 1.0)
    ours = model.finish(run_alone(model, wanted, wide_canvas()))
    theirs = asked_for(tiny.pipeline(name, mode, "flow_euler"), name, wanted, wide_canvas(), "np")
    assert np.abs(ours - theirs * 255).max() < 1


class HeunOnItsOwnSchedule(FlowMatchHeunDiscreteScheduler):  # type: ignore[misc]  # diffusers has no types
    """diffusers' Heun for the pipelines that would hand it their own noise levels."""

    def set_timesteps(self, device: Any = None, sigmas: Any = None, mu: Any = None) -> None:
        super().set_timesteps(len(sigmas), device)


@pytest.mark.parametrize(("name", "mode"), TOKEN_FAMILIES)
def test_heun_makes_its_own_schedule_where_diffusers_pipelines_refuse_it(name: str, mode: str) -> None:
    """At full strength: below it the pipelines would take its network calls for steps."""
    wanted = parameters("flow_heun", 1.0)
    (state,) = run_alone(tiny.model(name, mode), wanted, canvas())
    theirs = tiny.pipeline(name, mode, "flow_euler")
    theirs.scheduler = HeunOnItsOwnSchedule(shift=3.0)
    assert difference(pack(state.latents), asked_for(theirs, name, wanted, canvas())) < TOLERANCE


@pytest.mark.parametrize(("name", "mode"), [("sd3", "concat"), ("sd3", "recompose"), *TOKEN_FAMILIES])
def test_half_precision_equals_that_of_diffusers_to_its_rounding(name: str, mode: str) -> None:
    wanted, theirs = parameters("flow_euler", 0.6), tiny.pipeline(name, mode, "flow_euler").to(torch.bfloat16)
    model = tiny.FAMILIES[name].family("tiny", tiny.pipeline(name, mode, "flow_euler").to(torch.bfloat16))
    (state,) = run_alone(model, wanted, canvas())
    assert state.latents.dtype == torch.bfloat16
    assert difference(state.latents.float(), asked(theirs, name, wanted, canvas()).float()) < 0.02


def test_sd3_undoes_the_shift_of_its_vae_which_diffusers_inpaint_pipeline_forgets() -> None:
    model = tiny.model("sd3", "recompose")
    latents = torch.randn(1, 16, 8, 8)
    theirs = model.vae.decode(latents / 1.5 + 0.06).sample
    assert torch.allclose(model.decode(latents), theirs, atol=1e-6)


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("scheduler", ["flow_euler", "flow_euler_karras"])
def test_schnell_which_is_told_no_guidance_scale_equals_diffusers(scheduler: str, strength: float) -> None:
    def schnell() -> Any:
        made = tiny.flux(64, tiny.SHIFTED_SCHEDULERS[scheduler](), told_guidance=False)
        made.set_progress_bar_config(disable=True)
        return made

    jobs = [parameters(scheduler, strength, seed, guidance) for seed, guidance in ((1, 1.0), (2, 8.0))]
    for wanted, latents in zip(jobs, run_together(Flux("tiny", schnell()), jobs), strict=True):
        theirs = asked_for(schnell(), "flux", wanted, canvas(), max_sequence_length=256)
        assert difference(pack(latents), theirs) < TOLERANCE


@pytest.mark.parametrize("mode", ["concat", "recompose"])
def test_flux_tells_each_image_of_a_batch_its_own_guidance_scale(mode: str) -> None:
    jobs = [parameters("flow_euler", 1.0, guidance=guidance) for guidance in (1.0, 30.0)]
    latents = run_together(tiny.model("flux", mode), jobs)
    assert difference(*latents) > 10 * TOLERANCE
    for ours, wanted in zip(latents, jobs, strict=True):
        assert difference(ours, oracle("flux", mode, wanted, canvas())) < TOLERANCE


def test_flux_computes_nothing_from_a_negative_prompt() -> None:
    (state,) = tiny.model("flux", "recompose").prepare(canvas(), parameters("flow_euler", 1.0), no_clock)
    assert not state.key.guided


LENGTHS = ("a", "a much longer prompt: " + "very " * 30, "a cat")


def test_the_lengths_of_its_batch_mates_prompts_do_not_change_an_image() -> None:
    """Qwen-Image's prompts are as long as they are; those of a batch are padded, the padding masked."""
    jobs = [
        parameters("flow_euler", 1.0, seed).model_copy(update={"prompt": prompt}) for seed, prompt in enumerate(LENGTHS)
    ]
    latents = run_together(tiny.model("qwen-image", "recompose"), jobs)
    for ours, wanted in zip(latents, jobs, strict=True):
        assert difference(ours, oracle("qwen-image", "recompose", wanted, canvas())) < TOLERANCE


def test_padding_that_were_not_masked_would_change_the_image() -> None:
    """Otherwise the test before this one would show nothing."""
    model = tiny.model("qwen-image", "recompose")
    (state,) = model.prepare(canvas(), parameters("flow_euler", 1.0, guidance=1.0), no_clock)
    alone = model.predict([state])
    state.text = {"encoder_hidden_states": torch.nn.functional.pad(state.text["encoder_hidden_states"], (0, 0, 0, 100))}
    assert difference(model.predict([state]), alone) > 10 * TOLERANCE


def test_guidance_of_qwen_image_keeps_the_length_of_each_patch() -> None:
    model = tiny.model("qwen-image", "recompose")
    unconditional, conditional = torch.randn(2, 1, 16, 8, 8)
    guided = model.guide(unconditional, conditional, torch.tensor([7.0]).view(1, 1, 1, 1))
    assert torch.allclose(pack(guided).norm(dim=-1), pack(conditional).norm(dim=-1), rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "family", "channels", "what", "there_are"),
    [
        (tiny.sd3, "sd3", 32, "follows a control image", "networks of 33 .* ordinary ones of 16"),
        (tiny.flux, "flux", 128, "follows a control image", "networks of 384 .* ordinary ones of 64"),
        (tiny.flux, "flux", 66, "fits none of this family", "networks of 384 .* ordinary ones of 64"),
        (tiny.qwen_image, "qwen-image", 132, "fits none of this family", "there are ordinary ones of 64"),
    ],
)
def test_a_transformer_of_another_kind_is_refused_with_what_it_is_instead(
    make: Any, family: str, channels: int, what: str, there_are: str
) -> None:
    with pytest.raises(BadModel, match=f" {channels} input channels.*{what}.*{there_are}"):
        tiny.FAMILIES[family].family("mine", make(channels, EULER()))
