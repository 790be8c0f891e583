"""Previews: what an image will probably look like, small, as a linear map of its latents. None calls the VAE.

A cell's colour is nearly linear in its latents. The map is fitted when a model makes its first preview: one small
picture is encoded, and least squares finds the colours from the latents. No numbers of published models are needed.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F

from jobs.previews import MAX_SIDE_PX
from worker.denoise.modes import Mode
from worker.denoise.state import DenoiseState
from worker.families.vae_latents import VaeLatents

SAMPLE_CELLS = 16
"""Side of the encoded picture, in latent cells: several times as many cells as latents have channels."""

MIN_SIGNAL = 1e-3
"""An estimate from noise predicted of pure noise is a quotient of two small numbers; the lower one is held to this."""


class LatentPreviews(VaeLatents):
    """What every family does for previews."""

    pipeline: Any
    mode: Mode

    @property
    @abstractmethod
    def flow(self) -> bool:
        """Whether the network predicts the velocity of a flow."""

    def estimate(self, states: Sequence[DenoiseState], noise_pred: torch.Tensor) -> None:
        """Set the ``estimate`` of the states that ask for it. Before they are stepped; ``noise_pred`` (rows, C, h, w).

        Nothing is waited for.
        """
        for state, output in zip(states, noise_pred.split(1), strict=True):
            state.estimate = self._clean(state, output) if state.wants_estimate else None

    def _clean(self, state: DenoiseState, output: torch.Tensor) -> torch.Tensor:
        """The clean latents that the network's output amounts to at the state's noise level, (1, C, h, w), float32."""
        noisy, output = state.scaled_latents().float(), output.float()
        signal, noise = self._levels(float(state.timesteps[state.index]))
        if self.flow:
            return noisy - noise * output
        kind = self.pipeline.scheduler.config.prediction_type
        if kind == "v_prediction":
            return signal * noisy - noise * output
        return output if kind == "sample" else (noisy - noise * output) / max(signal, MIN_SIGNAL)

    def _levels(self, timestep: float) -> tuple[float, float]:
        """Weights of clean latents and noise in what the network sees at a timestep."""
        scheduler = self.pipeline.scheduler
        if self.flow:
            noise: float = timestep / scheduler.config.num_train_timesteps
            return 1 - noise, noise
        powers = scheduler.alphas_cumprod
        power = float(powers[min(max(round(timestep), 0), len(powers) - 1)])
        return power**0.5, (1 - power) ** 0.5

    @torch.inference_mode()
    def preview(self, state: DenoiseState) -> torch.Tensor:
        """Of a state with an ``estimate``: (h, w, 3), uint8, on the device, ``MAX_SIDE_PX`` at most."""
        assert state.estimate is not None
        latents = self.mode.final_latents(replace(state, latents=state.estimate)).float()
        if max(latents.shape[2:]) > MAX_SIDE_PX:
            shrunk = MAX_SIDE_PX / max(latents.shape[2:])
            height, width = (max(1, int(side * shrunk)) for side in latents.shape[2:])
            latents = F.adaptive_avg_pool2d(latents, (height, width))
        weights, constant = self._colours.split((self.latent_channels, 1))
        colours = latents[0].permute(1, 2, 0) @ weights + constant
        return torch.as_tensor((colours.nan_to_num() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8))

    @cached_property
    def _colours(self) -> torch.Tensor:
        """A cell's colour, -1 to 1, from its latents and 1: (C + 1, 3), float32, on the device."""
        picture = sample_picture(SAMPLE_CELLS * self.latent_factor)
        latents = self.scaled(self.moments(picture.to(self.device)).narrow(1, 0, self.latent_channels))
        cells = latents[0].flatten(1).T.double().cpu()  # (cells, C)
        colours = F.adaptive_avg_pool2d(picture, (latents.shape[2], latents.shape[3]))[0].flatten(1).T.double()
        rows = torch.cat([cells, torch.ones(len(cells), 1, dtype=cells.dtype)], dim=1)
        solution = torch.linalg.lstsq(rows, colours, driver="gelsd").solution  # gelsd: whatever the rank
        return torch.as_tensor(solution.float().to(self.device))


def sample_picture(side_px: int) -> torch.Tensor:
    """Coloured noise at all scales, as in photos: its power falls with frequency. (1, 3, side, side), -1 to 1."""
    generator, size = torch.Generator().manual_seed(0), (side_px, side_px)
    picture, cells = torch.zeros(1, 3, *size), 4
    while cells <= side_px:
        layer = torch.randn(1, 3, cells, cells, generator=generator) * (4 / cells) ** 0.5
        picture += F.interpolate(layer, size, mode="bilinear")
        cells *= 2
    return picture.tanh()
