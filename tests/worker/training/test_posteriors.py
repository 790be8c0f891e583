"""Why the simple loss is enough (Ho et al. 2020, section 3), shown by the training's own functions.

The divergence between the posteriors q(x_{t-1} | x_t, x_0) and p(x_{t-1} | x_t) is computed here from the betas alone;
noising, target and loss are the project's. Timesteps count from 0, so the paper's t is one more.
"""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from worker.training.loss import simple_loss
from worker.training.targets import Law, Prediction, law_of

BETA = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
ALPHA = 1 - BETA
ALPHA_BAR = ALPHA.cumprod(0)
ALPHA_BAR_BEFORE = torch.cat([torch.ones(1, dtype=torch.float64), ALPHA_BAR[:-1]])
POSTERIOR_VARIANCE = (1 - ALPHA_BAR_BEFORE) / (1 - ALPHA_BAR) * BETA  # eq. 7
VARIANCES = {"beta": BETA, "posterior": POSTERIOR_VARIANCE}  # the two choices of section 3.2 for sigma_t^2
TIMESTEPS = [1, 2, 10, 100, 400, 700, 999]
KINDS: list[Prediction] = ["epsilon", "v_prediction"]
SHAPE = (1, 4, 6, 5)


def posterior_mean(noised: Tensor, clean: Tensor, t: int) -> Tensor:
    """Of q(x_{t-1} | x_t, x_0), eq. 7."""
    of_clean = ALPHA_BAR_BEFORE[t].sqrt() * BETA[t] / (1 - ALPHA_BAR[t])
    of_noised = ALPHA[t].sqrt() * (1 - ALPHA_BAR_BEFORE[t]) / (1 - ALPHA_BAR[t])
    return of_clean * clean + of_noised * noised


def network_mean(kind: Prediction, noised: Tensor, output: Tensor, t: int) -> Tensor:
    """Of p(x_{t-1} | x_t): eq. 11 for noise; for v, eq. 7 at the picture that v stands for (Salimans and Ho 2022)."""
    if kind == "epsilon":
        return (noised - BETA[t] / (1 - ALPHA_BAR[t]).sqrt() * output) / ALPHA[t].sqrt()
    return posterior_mean(noised, ALPHA_BAR[t].sqrt() * noised - (1 - ALPHA_BAR[t]).sqrt() * output, t)


def factor(kind: Prediction, variance: Tensor, t: int) -> Tensor:
    """Of the squared error: eq. 12 for noise; an error in v is one in the noise divided by sqrt(alpha_bar)."""
    of_noise = BETA[t] ** 2 / (2 * variance * ALPHA[t] * (1 - ALPHA_BAR[t]))
    return of_noise if kind == "epsilon" else of_noise * ALPHA_BAR[t]


def divergence(kind: Prediction, variance: Tensor, clean: Tensor, noised: Tensor, output: Tensor, t: int) -> Tensor:
    """KL(q || p) of each element."""
    q = Normal(posterior_mean(noised, clean, t), POSTERIOR_VARIANCE[t].sqrt())
    p = Normal(network_mean(kind, noised, output, t), variance.sqrt())
    return kl_divergence(q, p)


def _law(kind: Prediction) -> Law:
    return law_of(DDPMScheduler(trained_betas=BETA.tolist(), prediction_type=kind))


def _drawn() -> tuple[Tensor, Tensor, Tensor]:
    """A picture, noise and an error of the network."""
    generator = torch.Generator().manual_seed(0)
    clean, noise, error = (torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(3))
    return clean, noise, 0.3 * error


@pytest.mark.parametrize("chosen", VARIANCES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", TIMESTEPS)
def test_the_divergence_between_the_posteriors_is_the_simple_loss_times_a_factor_of_the_timestep(
    t: int, kind: Prediction, chosen: str
) -> None:
    law, (clean, noise, error), level = _law(kind), _drawn(), torch.tensor([t])
    noised, wanted = law.noised(clean, noise, level), law.target(clean, noise, level)
    output, variance = wanted + error, VARIANCES[chosen][t]
    ratio = POSTERIOR_VARIANCE[t] / variance
    constant = 0.5 * (ratio - 1 - ratio.log())  # eq. 8: what no network can change; 0 for the posterior's variance
    bound = divergence(kind, variance, clean, noised, output, t).mean()
    torch.testing.assert_close(
        bound - constant, factor(kind, variance, t) * simple_loss(output, wanted), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("kind", KINDS)
def test_weighted_by_the_hole_the_loss_is_the_divergence_inside_the_hole(kind: Prediction) -> None:
    law, (clean, noise, error), t = _law(kind), _drawn(), 400
    hole = torch.zeros(1, 1, *SHAPE[2:])
    hole[..., 1:4, 2:] = 1
    level = torch.tensor([t])
    noised, wanted = law.noised(clean, noise, level), law.target(clean, noise, level)
    output, variance = wanted + error * (1 + hole), POSTERIOR_VARIANCE[t]
    inside = divergence(kind, variance, clean, noised, output, t)[hole.expand(SHAPE) > 0].mean()
    loss = simple_loss(output, wanted, hole)
    torch.testing.assert_close(inside, factor(kind, variance, t) * loss, rtol=1e-3, atol=0)
    assert loss > 1.5 * simple_loss(output, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_where_the_loss_is_zero_the_posteriors_are_the_same(kind: Prediction) -> None:
    law, (clean, noise, _) = _law(kind), _drawn()
    for t in TIMESTEPS:
        level = torch.tensor([t])
        noised, wanted = law.noised(clean, noise, level), law.target(clean, noise, level)
        assert float(divergence(kind, POSTERIOR_VARIANCE[t], clean, noised, wanted, t).max()) < 1e-6, t
