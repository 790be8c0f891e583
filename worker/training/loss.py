"""The simple loss."""

from __future__ import annotations

from torch import Tensor

HOLE_WEIGHT, KNOWN_WEIGHT = 1.0, 0.1
"""How much the loss counts in the hole, and in what is known."""


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
