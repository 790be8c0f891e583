"""Previews: the estimate that a network's output amounts to, and the colours of latents without a call of the VAE."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.previews import MAX_SIDE_PX
from tests.worker import tiny
from tests.worker.painting import pocket
from tests.worker.runs import FAMILY_MODES, canvas, difference, no_clock, parameters
from worker.denoise.state import DenoiseState
from worker.families.latent_diffusion import LatentDiffusion
from worker.families.latent_previews import sample_picture
from worker.pixels.canvas import Canvas

PHOTOS = Path(__file__).parents[3] / "bench" / "photos"
RECOMPOSED = [(name, scheduler) for name, tiny_one in tiny.FAMILIES.items() for scheduler in tiny_one.schedulers]


def begun(model: LatentDiffusion, scheduler: str) -> tuple[DenoiseState, torch.Tensor]:
    """A state whose latents are the picture's under noise, none of it taken away yet; and the picture's."""
    (state,) = model.prepare(canvas(), parameters(scheduler, 0.6), no_clock)
    state.wants_estimate = True
    assert state.image_latents is not None
    return state, state.image_latents


@pytest.mark.parametrize(("name", "scheduler"), RECOMPOSED)
def test_of_a_perfect_prediction_the_estimate_is_the_picture_itself(name: str, scheduler: str) -> None:
    model = tiny.model(name, "recompose", scheduler)
    state, clean = begun(model, scheduler)
    perfect = state.noise - clean if model.flow else state.noise
    model.estimate([state], perfect)
    assert state.estimate is not None
    assert difference(state.estimate, clean) < 0.02  # the timesteps of Karras' sigmas are rounded


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_each_kind_of_prediction_has_its_estimate(kind: str) -> None:
    model = tiny.model("sd", "recompose", "ddim")
    model.pipeline.scheduler.register_to_config(prediction_type=kind)
    state, clean = begun(model, "ddim")
    power = model.pipeline.scheduler.alphas_cumprod[state.timesteps[0]]
    velocity = power.sqrt() * state.noise - (1 - power).sqrt() * clean
    model.estimate([state], velocity if kind == "v_prediction" else clean)
    assert state.estimate is not None
    assert difference(state.estimate, clean) < 1e-3


def test_a_state_that_does_not_ask_keeps_none() -> None:
    model = tiny.model("sd", "recompose", "ddim")
    state, _ = begun(model, "ddim")
    model.estimate([state], state.noise)
    state.wants_estimate = False
    model.estimate([state], state.noise)
    assert state.estimate is None


@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_the_vae_encodes_one_picture_for_all_previews_and_decodes_none(name: str, mode: str) -> None:
    model = tiny.model(name, mode)
    (state,) = model.prepare(canvas(), parameters(next(iter(tiny.FAMILIES[name].schedulers)), 1.0), no_clock)
    state.estimate = state.latents
    calls: list[str] = []
    for part in ("encoder", "decoder"):
        getattr(model.vae, part).register_forward_hook(lambda *_, part=part: calls.append(part))
    previews = [model.preview(state) for _ in range(3)]
    assert calls == ["encoder"]
    assert {(tuple(pixels.shape), pixels.dtype) for pixels in previews} == {((8, 8, 3), torch.uint8)}


def test_the_colours_of_the_pocket_models_latents_are_those_of_the_photo() -> None:
    model: Any = pocket()
    for file in sorted(PHOTOS.glob("*.png"))[:4]:
        photo = np.asarray(Image.open(file).convert("RGB"))
        pixels = Canvas(photo, np.zeros(photo.shape[:2], np.uint8))
        (state,) = model.prepare(pixels, parameters("ddim", 1.0), no_clock)
        state.estimate = torch.zeros_like(state.latents)  # nothing but the fill, which is the photo
        seen = model.preview(state).numpy().astype(float)
        small = np.asarray(Image.fromarray(photo).resize(seen.shape[1::-1], Image.Resampling.BOX), float)
        assert np.abs(seen - small).mean() < 1


def test_a_large_canvas_is_shown_small() -> None:
    model = tiny.model("sd", "recompose", "ddim")
    state, _ = begun(model, "ddim")
    state.estimate = torch.zeros(1, 4, 300, 75)
    assert model.preview(state).shape == (MAX_SIDE_PX, 32, 3)


def test_latents_that_are_no_numbers_are_shown_as_grey() -> None:
    model = tiny.model("sd", "recompose", "ddim")
    state, _ = begun(model, "ddim")
    state.estimate = torch.full((1, 4, 8, 8), torch.nan)
    assert (model.preview(state) == 128).all()


def test_the_sample_picture_has_every_colour_and_is_always_the_same() -> None:
    picture = sample_picture(128)
    assert torch.equal(picture, sample_picture(128))
    assert picture.amin((0, 2, 3)).max() < -0.9 and picture.amax((0, 2, 3)).min() > 0.9
