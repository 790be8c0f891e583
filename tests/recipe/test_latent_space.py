from __future__ import annotations

import pytest
import torch

from recipe.latent_space import SCALING_FACTOR, LatentSpace, exact_encoder
from recipe.parts import make_vae
from worker.training.corpus import Corpus, draw_batch
from worker.training.seeds import numpy_rng


def test_the_encoder_in_diffusers_form_equals_the_projection(space: LatentSpace) -> None:
    image = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = make_vae(space).encode(image).latents * SCALING_FACTOR
    torch.testing.assert_close(latents, space.encode(image), atol=1e-5, rtol=1e-5)


def test_the_encoder_survives_half_precision(space: LatentSpace) -> None:
    vae = make_vae(space)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact = vae.encode(image).latents
    rounded = vae.half().float().encode(image).latents
    torch.testing.assert_close(rounded, exact, atol=5e-3, rtol=0)


def test_changed_pixels_change_the_latents_under_them_and_no_others(space: LatentSpace) -> None:
    image = torch.zeros(1, 3, 48, 48)
    changed = image.clone()
    changed[..., 16:32, 8:16] = 0.7
    difference = make_vae(space).encode(changed).latents - make_vae(space).encode(image).latents
    touched = difference.abs().amax(1)[0] > 1e-6
    wanted = torch.zeros(6, 6, dtype=torch.bool)
    wanted[2:4, 1:2] = True
    assert torch.equal(touched, wanted)


def test_linear_decoding_inverts_the_projection(space: LatentSpace) -> None:
    latents = torch.randn(1, space.channels, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(space.encode(space.decode(latents)), latents, atol=1e-4, rtol=1e-4)


def test_latents_have_unit_scale_and_coarse_components_stay_the_louder(space: LatentSpace, corpus: Corpus) -> None:
    latents = space.encode(draw_batch(corpus, numpy_rng(1, 0, "test"), 64, 64).image)
    std = latents.transpose(0, 1).flatten(1).std(1)
    assert float(latents.square().mean().sqrt()) == pytest.approx(1.0, abs=0.15)
    assert std[0] > 1.3 * std[8] > 1.3 * std[15]


def test_an_encoder_too_narrow_for_the_pixels_is_refused(space: LatentSpace) -> None:
    with pytest.raises(ValueError, match="48"):
        exact_encoder(space, 32)
