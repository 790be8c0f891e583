"""``FillMode``: what the network sees, and what its latents are offsets from."""

import numpy as np
import pytest
import torch

from jobs.errors import BadModel
from tests.worker import tiny
from tests.worker.runs import canvas, no_clock, parameters, run_alone
from worker.families.latent_diffusion import LatentDiffusion
from worker.families.sd import StableDiffusion
from worker.pixels.canvas import Canvas
from worker.pixels.fill.texture import fill


def _on_fill() -> LatentDiffusion:
    pipeline = tiny.pipeline("sd", "concat", "ddim")
    pipeline.unet.register_to_config(paints_on_fill=True)
    return StableDiffusion("tiny", pipeline)


@torch.inference_mode()
def _likeliest(model: LatentDiffusion, image: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(model.vae.encode(image).latent_dist.mode() * model.vae.config.scaling_factor)


def test_the_network_is_shown_the_filled_picture() -> None:
    model, pixels = _on_fill(), canvas()
    (state,) = model.prepare(pixels, parameters("ddim", 1.0), no_clock)
    assert state.extra_channels is not None
    assert state.fill is not None
    assert torch.equal(state.extra_channels[:, 1:], state.fill.base_latents)
    filled = model._image(fill(pixels.image, pixels.mask > 0))
    assert torch.equal(state.fill.base_latents, _likeliest(model, filled))


def test_a_network_that_adds_nothing_leaves_the_fill_to_the_pixel() -> None:
    model, pixels = _on_fill(), canvas()
    states = model.prepare(pixels, parameters("ddim", 1.0).model_copy(update={"n": 2}), no_clock)
    for state in states:
        state.latents = torch.zeros_like(state.latents)
    assert np.array_equal(model.finish(states), np.stack([pixels.filled] * 2))


def test_what_the_fill_loses_in_decoding_is_that_of_the_requests_own_picture_and_hole() -> None:
    """On a model that keeps what it encodes, other pictures and other holes come one after another."""
    pipeline = tiny.pipeline("sd", "concat", "ddim")
    pipeline.unet.register_to_config(paints_on_fill=True)
    model, pixels = StableDiffusion("tiny", pipeline, encoding_budget_bytes=2**30), canvas()
    hole = pixels.mask.copy()
    hole[16:24, 8:16] = 0
    for other in (pixels, canvas(1), Canvas(pixels.image, hole), pixels):
        (state,) = model.prepare(other, parameters("ddim", 1.0), no_clock)
        state.latents = torch.zeros_like(state.latents)
        assert np.array_equal(model.finish([state])[0], other.filled)


def test_cells_without_a_hole_are_the_base_latents_whatever_the_network_predicts_there() -> None:
    model = _on_fill()
    (state,) = run_alone(model, parameters("ddim", 1.0), canvas())
    assert state.fill is not None
    known = (state.mask == 0).expand_as(state.fill.base_latents)
    assert known.any() and not known.all()
    assert torch.equal(model.mode.final_latents(state)[known], state.fill.base_latents[known])
    assert not torch.equal(state.latents[known], torch.zeros_like(state.latents[known]))


def test_image_latents_are_counted_from_the_fill_too() -> None:
    model, pixels, wanted = _on_fill(), canvas(), parameters("ddim", 0.6)
    (state,) = model.prepare(pixels, wanted, no_clock)
    generator = torch.Generator().manual_seed(wanted.seed)
    base_latents = _likeliest(model, model._image(fill(pixels.image, pixels.mask > 0)))
    assert state.image_latents is not None
    assert torch.equal(state.image_latents, model.encode(model._image(pixels.image), generator) - base_latents)


def test_other_networks_count_from_zero() -> None:
    model = tiny.model("sd", "concat")
    (state,) = run_alone(model, parameters("ddim", 1.0), canvas())
    assert state.fill is None
    assert model.mode.final_latents(state) is state.latents


def test_a_network_without_channels_for_the_fill_cannot_paint_on_it() -> None:
    pipeline = tiny.pipeline("sd", "recompose", "ddim")
    pipeline.unet.register_to_config(paints_on_fill=True)
    with pytest.raises(BadModel, match="paints_on_fill"):
        StableDiffusion("tiny", pipeline)
