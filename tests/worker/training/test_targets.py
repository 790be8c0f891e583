"""Noise laws beside diffusers' own schedulers, and what min-SNR weighting means for each of them."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler

from worker.training.targets import DiffusionLaw, FlowLaw, Law, law_of

EPS = DDIMScheduler(beta_schedule="scaled_linear")
V = DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
FLOW = FlowMatchEulerDiscreteScheduler(shift=3.0)
LAWS = {"eps": law_of(EPS), "v": law_of(V), "flow": law_of(FLOW)}
LEVEL = torch.tensor([0, 250, 700, 998])


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(4, 2, 3, 3, generator=generator), torch.randn(4, 2, 3, 3, generator=generator)


@pytest.mark.parametrize(("name", "scheduler"), [("eps", EPS), ("v", V)])
def test_diffusion_noises_and_asks_as_the_scheduler_does(name: str, scheduler: DDIMScheduler) -> None:
    (clean, noise), law = _pair(), LAWS[name]
    torch.testing.assert_close(law.noised(clean, noise, LEVEL), scheduler.add_noise(clean, noise, LEVEL))
    wanted = noise if name == "eps" else scheduler.get_velocity(clean, noise, LEVEL)
    torch.testing.assert_close(law.target(clean, noise, LEVEL), wanted)
    kept = scheduler.alphas_cumprod[LEVEL]
    by_hand = kept.sqrt().view(-1, 1, 1, 1) * clean + (1 - kept).sqrt().view(-1, 1, 1, 1) * noise
    torch.testing.assert_close(law.noised(clean, noise, LEVEL), by_hand)
    torch.testing.assert_close(law.snr(LEVEL), kept / (1 - kept))
    assert torch.equal(law.timestep(LEVEL), LEVEL)


def test_a_flow_noises_as_the_scheduler_does_and_asks_for_the_way_to_the_noise() -> None:
    (clean, noise), law = _pair(), LAWS["flow"]
    timesteps = law.timestep(LEVEL)
    assert torch.equal(timesteps, FLOW.timesteps[LEVEL])
    noised = law.noised(clean, noise, LEVEL)
    torch.testing.assert_close(noised, FLOW.scale_noise(clean, timesteps, noise))
    sigma = FLOW.sigmas[LEVEL].view(-1, 1, 1, 1)
    torch.testing.assert_close(noised - sigma * law.target(clean, noise, LEVEL), clean)


def _picture(law: Law, noised: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The picture that an output stands for."""
    if isinstance(law, FlowLaw):
        return noised - law.sigmas[LEVEL].view(-1, 1, 1, 1) * output
    assert isinstance(law, DiffusionLaw)
    kept = law.alphas_bar[LEVEL].view(-1, 1, 1, 1)
    if law.kind == "epsilon":
        return (noised - (1 - kept).sqrt() * output) / kept.sqrt()
    return kept.sqrt() * noised - (1 - kept).sqrt() * output


@pytest.mark.parametrize("name", LAWS)
def test_min_snr_weighs_the_pictures_error_by_the_signal_to_noise_ratio_up_to_gamma(name: str) -> None:
    (clean, noise), law = _pair(), LAWS[name]
    noised, wanted = law.noised(clean, noise, LEVEL), law.target(clean, noise, LEVEL)
    output = wanted + 0.1 * torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
    in_pictures = (_picture(law, noised.double(), output.double()) - clean).square().mean((1, 2, 3))
    as_trained = (output - wanted).square().mean((1, 2, 3))
    weighted = law.snr(LEVEL).clamp(max=5.0) * in_pictures
    torch.testing.assert_close(law.min_snr(LEVEL, 5.0) * as_trained, weighted.float(), rtol=2e-2, atol=1e-6)


def test_pure_noise_is_drawn_as_often_as_asked() -> None:
    for name, noisiest in (("eps", 999), ("v", 999), ("flow", 0)):
        level = LAWS[name].draw(4000, torch.Generator().manual_seed(0), last_share=0.3)
        assert 0.27 < (level == noisiest).float().mean() < 0.34, name
        assert 0 <= level.min() <= level.max() <= 999


def test_flow_levels_are_drawn_from_the_middle_most() -> None:
    level = LAWS["flow"].draw(4000, torch.Generator().manual_seed(0), last_share=0.0)
    assert ((level > 250) & (level < 750)).float().mean() > 0.65


def test_any_scheduler_of_a_diffusion_model_gives_the_same_law() -> None:
    euler = law_of(EulerDiscreteScheduler(beta_schedule="scaled_linear"))
    assert isinstance(euler, DiffusionLaw)
    torch.testing.assert_close(euler.alphas_bar, EPS.alphas_cumprod)


def test_a_model_that_predicts_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="'sample'"):
        law_of(DDIMScheduler(prediction_type="sample"))


@pytest.mark.parametrize("name", LAWS)
def test_levels_may_be_on_another_device_than_the_table(name: str) -> None:
    law, level = LAWS[name], LEVEL.to("meta")
    clean = torch.zeros(4, 2, 3, 3, device="meta")
    made = (
        law.noised(clean, clean, level),
        law.target(clean, clean, level),
        law.timestep(level),
        law.min_snr(level, 5),
    )
    assert {tensor.device.type for tensor in made} == {"meta"}
