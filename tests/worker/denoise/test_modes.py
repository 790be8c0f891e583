"""The recomposition step, its polarity, soft masks, and the geometry of the latent grid."""

from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderTiny

from tests.worker import tiny
from tests.worker.runs import canvas, no_clock, parameters, run_alone, soft_canvas
from worker.models.sources import EMBEDDED


def test_recomposition_is_the_legacy_formula_with_the_opposite_polarity() -> None:
    """Legacy: ``init_latents_proper * mask + latents * (1 - mask)``, where 1 means keep. Ours: 1 means repaint."""
    model = tiny.model("sd", "recompose")
    (state,) = model.prepare(canvas(), parameters("ddim", 1.0), no_clock)
    repainted = state.latents = torch.randn_like(state.latents)
    state.index = 3
    assert state.step == 2
    legacy_mask = 1 - state.mask
    proper = state.noised_original()
    expected = proper * legacy_mask + repainted * (1 - legacy_mask)
    after = model.mode.after_step([state], repainted)
    assert torch.equal(after, expected)
    assert torch.equal(after[..., :2, :], proper[..., :2, :])  # black rows: the original


def test_after_the_last_step_the_kept_latents_are_clean() -> None:
    (state,) = run_alone(tiny.model("sd", "recompose"), parameters("ddim", 1.0), canvas())
    assert state.image_latents is not None
    kept = (state.mask == 0).expand_as(state.latents)
    assert torch.equal(state.latents[kept], state.image_latents[kept])


def test_a_soft_mask_acts_in_the_denoising_in_both_modes() -> None:
    for mode in ("concat", "recompose"):
        model = tiny.model("sd", mode)
        latents = {}
        for value in (64, 128, 255):
            (state,) = run_alone(model, parameters("ddim", 1.0), soft_canvas(value))
            latents[value] = state.latents
            original = state.image_latents
        (full,) = run_alone(tiny.model("sd", "recompose"), parameters("ddim", 1.0), soft_canvas(255))
        original = full.image_latents
        assert original is not None
        hole = (full.mask > 0).expand_as(original)
        distance = {value: float((latents[value] - original)[hole].norm()) for value in latents}
        assert distance[64] < distance[128] < distance[255]


def latent_change(encode: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """How much each latent cell changes, (16, 16), when the pixels under cells [6:8, 10:12] change."""
    image = torch.tensor(np.random.default_rng(3).uniform(-1, 1, (1, 3, 128, 128)), dtype=torch.float32)
    changed = image.clone()
    changed[..., 48:64, 80:96] *= -1
    with torch.no_grad():
        return (encode(changed) - encode(image)).abs().mean(1)[0]


def test_a_patch_of_pixels_changes_the_latents_under_it_and_little_elsewhere() -> None:
    """Why a mask shrunk by the VAE's factor lands in the right place. Random weights, attention in the middle."""
    vae = tiny.vae()
    change = latent_change(lambda image: vae.encode(image).latent_dist.mean)
    row, column = divmod(int(change.argmax()), 16)
    assert row in (6, 7) and column in (10, 11)
    under = change[6:8, 10:12].mean()
    far = torch.ones(16, 16, dtype=torch.bool)
    far[5:9, 9:13] = False
    assert under > 5 * change[far].mean()


def test_the_pocket_models_latents_change_under_the_patch_alone() -> None:
    vae = AutoencoderTiny.from_pretrained(EMBEDDED / "vae")
    change = latent_change(lambda image: vae.encode(image).latents)
    assert change[6:8, 10:12].min() > 0.01
    change[6:8, 10:12] = 0
    assert change.max() < 1e-4
