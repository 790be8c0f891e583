"""What a network is asked to predict, and at which noise levels: eps and v by diffusion, velocities by flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_snr
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction"]


class Law(Protocol):
    """How a picture turns into noise. A level is an index into the law's table, (B,); latents are (B, C, h, w)."""

    def draw(self, count: int, generator: torch.Generator, last_share: float) -> Tensor:
        """Noise levels to train on, (count,); `last_share` of them are the noisiest, where all sampling begins."""
        ...

    def timestep(self, level: Tensor) -> Tensor:
        """The timestep that the network receives for a noise level, as the noise scheduler gives it, (B,)."""
        ...

    def noised(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor: ...

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the network should output for `noised`."""
        ...

    def snr(self, level: Tensor) -> Tensor:
        """Power of the picture over power of the noise, (B,)."""
        ...

    def min_snr(self, level: Tensor, gamma: float) -> Tensor:
        """Weight of each example's loss, (B,): as if the picture were predicted, weighted by min(SNR, gamma)."""
        ...


@dataclass(frozen=True)
class DiffusionLaw:
    """`sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise` (Ho et al. 2020, eq. 4), as diffusers computes it."""

    scheduler: DDPMScheduler

    @property
    def alphas_bar(self) -> Tensor:
        """The share of the picture's power that is left at each timestep, (T,)."""
        table: Tensor = self.scheduler.alphas_cumprod
        return table

    @property
    def kind(self) -> Prediction:
        prediction: Prediction = self.scheduler.config.prediction_type
        return prediction

    def draw(self, count: int, generator: torch.Generator, last_share: float) -> Tensor:
        last = len(self.alphas_bar) - 1
        level = torch.randint(last + 1, (count,), generator=generator)
        return torch.where(torch.rand(count, generator=generator) < last_share, last, level)

    def timestep(self, level: Tensor) -> Tensor:
        return level

    def noised(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        noised: Tensor = self.scheduler.add_noise(clean, noise, level)
        return noised

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """`epsilon` is the noise (Ho et al. 2020); `v` is `sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) clean` (Salimans
        and Ho 2022), which has a signal even at a signal-to-noise ratio of zero: there v is `-clean`.
        """
        if self.kind == "epsilon":
            return noise
        velocity: Tensor = self.scheduler.get_velocity(clean, noise, level)
        return velocity

    def snr(self, level: Tensor) -> Tensor:
        ratio: Tensor = compute_snr(self.scheduler, level)
        return ratio

    def min_snr(self, level: Tensor, gamma: float) -> Tensor:
        """Hang et al. 2023: min(SNR, gamma) / SNR for eps, / (SNR + 1) for v. Pure noise weighs nothing for v."""
        snr = self.snr(level).clamp(min=1e-8)
        return snr.clamp(max=gamma) / (snr + 1 if self.kind == "v_prediction" else snr)


@dataclass(frozen=True)
class FlowLaw:
    """`(1 - sigma) clean + sigma noise`: a straight line; the network predicts its direction, noise - clean.

    Liu et al. 2022 (rectified flow). Levels are drawn logit-normal, most of them in the middle (Esser et al. 2024,
    section 3.1).
    """

    sigmas: Tensor  # (T,), falling
    timesteps: Tensor  # (T,)

    def draw(self, count: int, generator: torch.Generator, last_share: float) -> Tensor:
        place = compute_density_for_timestep_sampling("logit_normal", count, 0.0, 1.0, generator=generator)
        level = (place * len(self.sigmas)).long().clamp(max=len(self.sigmas) - 1)
        return torch.where(torch.rand(count, generator=generator) < last_share, 0, level)

    def timestep(self, level: Tensor) -> Tensor:
        return self.timesteps.to(level.device)[level]

    def noised(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        sigma = self._sigma(level).view(-1, 1, 1, 1)
        return (1 - sigma) * clean + sigma * noise

    def target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        return noise - clean

    def snr(self, level: Tensor) -> Tensor:
        sigma = self._sigma(level).double()
        return ((1 - sigma) / sigma).square().float()

    def min_snr(self, level: Tensor, gamma: float) -> Tensor:
        """The velocity's error is the picture's divided by sigma, so the weight is min(SNR, gamma) sigma^2."""
        return self.snr(level).clamp(max=gamma) * self._sigma(level).square()

    def _sigma(self, level: Tensor) -> Tensor:
        return self.sigmas.to(level.device)[level]


def compose(noised: Tensor, clean: Tensor, mask: Tensor) -> Tensor:
    """`noised` where the mask is 1 (repaint), `clean` where it is 0."""
    return mask * noised + (1 - mask) * clean


def law_of(scheduler: Any) -> Law:
    """Return the law that a model's own noise scheduler was loaded with.

    Raises ValueError for a model that predicts neither noise, v nor a flow's velocity.
    """
    if hasattr(scheduler, "scale_noise"):
        return FlowLaw(scheduler.sigmas.cpu()[: scheduler.config.num_train_timesteps], scheduler.timesteps.cpu())
    return diffusion_law(scheduler)


def diffusion_law(scheduler: Any) -> DiffusionLaw:
    """Return the law of a diffusion's scheduler, as a DDPMScheduler of the same noise levels.

    Raises ValueError for a model that predicts neither noise nor v.
    """
    kind = scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise ValueError(f"a model that predicts {kind!r} cannot be trained; epsilon, v_prediction and flows can")
    return DiffusionLaw(DDPMScheduler.from_config(scheduler.config))
