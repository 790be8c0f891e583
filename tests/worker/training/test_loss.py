from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler

from recipe.parts import make_scheduler
from worker.training.loss import simple_loss
from worker.training.targets import diffusion_law


def _pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 2, 3, 3, generator=generator), torch.randn(4, 2, 3, 3, generator=generator)


def test_the_v_target_equals_the_schedulers_velocity_and_its_formula() -> None:
    clean, noise = _pair()
    scheduler, timestep = make_scheduler(), torch.tensor([0, 200, 700, 999])
    alpha_bar = scheduler.alphas_cumprod[timestep].view(-1, 1, 1, 1)
    target = diffusion_law(scheduler).target(clean, noise, timestep)
    torch.testing.assert_close(target, scheduler.get_velocity(clean, noise, timestep))
    torch.testing.assert_close(target, alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * clean)


def test_at_the_last_timestep_v_asks_for_the_picture_itself() -> None:
    clean, noise = _pair()
    target = diffusion_law(make_scheduler()).target(clean, noise, torch.full((4,), 999))
    torch.testing.assert_close(target, -clean, atol=1e-5, rtol=0)


def test_the_noise_law_keeps_most_of_the_signal_until_pure_noise() -> None:
    signal = make_scheduler(last_signal=0.9).alphas_cumprod.sqrt()
    assert float(signal[0]) > 0.999
    assert float(signal[998]) == pytest.approx(0.9, abs=0.01)
    assert float(signal[999]) == pytest.approx(0.0, abs=1e-3)
    assert (signal[1:] < signal[:-1]).all()


def test_the_epsilon_target_is_the_noise() -> None:
    clean, noise = _pair()
    assert diffusion_law(DDPMScheduler()).target(clean, noise, torch.full((4,), 500)) is noise


def test_without_weights_the_loss_is_the_mean_squared_error() -> None:
    output, wanted = _pair()
    torch.testing.assert_close(simple_loss(output, wanted), F.mse_loss(output, wanted))


def test_cells_of_weight_zero_do_not_count() -> None:
    output, wanted = _pair()
    weight = torch.ones(4, 1, 3, 3)
    weight[..., 0] = 0
    torch.testing.assert_close(simple_loss(output, wanted, weight), F.mse_loss(output[..., 1:], wanted[..., 1:]))
