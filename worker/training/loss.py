"""The simple loss and its targets."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Prediction = Literal["epsilon", "v_prediction"]


def target(kind: Prediction, clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """What the network should output for `x_t = sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise`.

    `epsilon` is the noise (Ho et al. 2020); `v` is `sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) clean` (Salimans and Ho
    2022), which still asks for something at a signal-to-noise ratio of zero: there x_t is the noise and v is -clean.
    """
    if kind == "epsilon":
        return noise
    return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * clean


def simple_loss(output: Tensor, wanted: Tensor, weight: Tensor | None = None) -> Tensor:
    """The mean squared error between the network's output and its target; `weight` (broadcast) says where it matters.

    Why this is enough (Ho et al. 2020, eq. 8-14): each term of the variational bound is the divergence between two
    Gaussians, the posterior q(x_{t-1} | x_t, x_0) and the network's p(x_{t-1} | x_t). With the variance of p fixed that
    is the squared distance of their means, and the posterior mean is a fixed linear function of x_t and the noise. So
    matching the noise is matching the posterior mean, up to a factor of t alone, which the simple loss drops: eq. 12
    for the noise, and alpha_bar times that for v (tests/worker/training/test_posteriors.py).
    """
    error = (output - wanted).square()
    if weight is None:
        return error.mean()
    weight = weight.expand_as(error)
    return (error * weight).sum() / weight.sum()
