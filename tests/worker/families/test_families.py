"""What is particular to one family: whom it refuses, what it makes of empty prompts, what it tells the network."""

from typing import Any

import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline

from jobs.errors import BadModel
from jobs.families import Family
from tests.worker import tiny
from tests.worker.runs import (
    FAMILY_MODES,
    TOLERANCE,
    asked,
    canvas,
    difference,
    no_clock,
    oracle,
    parameters,
    run_alone,
)
from tests.worker.tiny_schedulers import DIFFUSION_SCHEDULERS
from worker.families.registry import FAMILIES
from worker.families.sd import StableDiffusion
from worker.families.sdxl import StableDiffusionXL


def test_every_family_has_a_tiny_factory_and_both_tell_the_same_class() -> None:
    assert {name: made.family for name, made in tiny.FAMILIES.items()} == FAMILIES


@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_the_mode_is_read_from_the_channel_count(name: str, mode: str) -> None:
    assert tiny.model(name, mode).mode.name == mode


@pytest.mark.parametrize(
    ("channels", "what"),
    [(8, "edits by instruction"), (5, "a depth map"), (7, "an upscaler"), (6, "fits none of this family")],
)
@pytest.mark.parametrize(("name", "make"), [("sd", tiny.sd), ("sdxl", tiny.sdxl)])
def test_another_channel_count_is_refused_with_what_the_file_is_instead(
    name: Family, make: Any, channels: int, what: str
) -> None:
    pipeline = make(channels, DIFFUSION_SCHEDULERS["ddim"]())
    with pytest.raises(BadModel, match=f"'mine'.* {channels} input channels.*{what}.* networks of 9 .* ones of 4"):
        FAMILIES[name]("mine", pipeline)


def test_a_network_of_sd_is_refused_as_sdxl_and_the_other_way_round() -> None:
    with pytest.raises(BadModel, match='try family = "sdxl"'):
        StableDiffusion("mine", tiny.pipeline("sdxl", "concat", "ddim"))
    with pytest.raises(BadModel, match='try family = "sd"'):
        StableDiffusionXL("mine", tiny.pipeline("sd", "concat", "ddim"))


@pytest.mark.parametrize("prompts", [("a cat", ""), ("", ""), ("blur", "blur")])
@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_guidance_with_empty_or_equal_prompts_is_that_of_diffusers(name: str, prompts: tuple[str, str]) -> None:
    wanted = parameters("ddim", 1.0).model_copy(update={"prompt": prompts[0], "negative_prompt": prompts[1]})
    (state,) = run_alone(tiny.model(name, "concat", "ddim"), wanted, canvas())
    assert difference(state.latents, oracle(name, "concat", wanted, canvas())) < TOLERANCE


@pytest.mark.parametrize("mode", ["concat", "recompose"])
def test_sdxl_at_its_pipelines_default_strength_starts_from_the_noised_image_one_step_later(mode: str) -> None:
    wanted = parameters("euler", 0.9999)
    (state,) = run_alone(tiny.model("sdxl", mode, "euler"), wanted, canvas())
    assert state.steps == wanted.num_inference_steps - 1
    assert difference(state.latents, oracle("sdxl", mode, wanted, canvas())) < TOLERANCE


def refiner(scheduler: Any) -> Any:
    """An SDXL pipeline as the refiner's: the second text encoder alone, a score in place of the target size."""
    made = tiny.sdxl(4, scheduler)
    sizes = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    made.unet = tiny.unet(4, cross_attention_dim=32, projection_class_embeddings_input_dim=5 * 8 + 32, **sizes)
    made.text_encoder = made.tokenizer = None
    made.register_to_config(requires_aesthetics_score=True)
    made.set_progress_bar_config(disable=True)
    return made


def latent_consistency(scheduler: Any) -> StableDiffusionInpaintPipeline:
    """A pipeline whose U-Net is told the guidance scale."""
    made = tiny.sd(9, scheduler)
    made.unet = tiny.unet(9, cross_attention_dim=32, time_cond_proj_dim=8)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize(("name", "make"), [("sdxl", refiner), ("sd", latent_consistency)])
def test_networks_of_the_family_that_are_told_other_things_equal_diffusers_too(name: Family, make: Any) -> None:
    wanted, pixels = parameters("euler", 0.6), canvas()
    model = FAMILIES[name]("tiny", make(DIFFUSION_SCHEDULERS["euler"]()))
    (state,) = run_alone(model, wanted, pixels)
    theirs = make(DIFFUSION_SCHEDULERS["euler"]())
    assert difference(state.latents, asked(theirs, name, wanted, pixels)) < TOLERANCE


def test_a_network_distilled_to_be_told_the_scale_is_not_guided_twice() -> None:
    model = StableDiffusion("tiny", latent_consistency(DIFFUSION_SCHEDULERS["ddim"]()))
    (state,) = model.prepare(canvas(), parameters("ddim", 1.0, guidance=8.0), no_clock)
    assert not state.key.guided and state.text["timestep_cond"].shape == (1, 8)


def test_the_vae_of_sdxl_stays_in_full_precision_where_half_would_overflow() -> None:
    model = StableDiffusionXL("tiny", tiny.pipeline("sdxl", "concat", "ddim").to(dtype=torch.float16))
    assert (model.vae.dtype, model.dtype) == (torch.float32, torch.float16)
