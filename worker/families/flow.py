"""What the flow-matching transformers share: a shift that depends on the resolution, and 2x2 packing."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import SchedulerMixin

PATCH = 2
"""Latent cells that one token spans, on each side."""


def linear_sigmas(steps: int) -> list[float]:
    """The noise levels before any shift, from 1 down to 1 / steps."""
    return [float(sigma) for sigma in np.linspace(1.0, 1 / steps, steps)]


def resolution_shift(scheduler: SchedulerMixin, grid: tuple[int, int]) -> float:
    """``mu``: how far the noise levels move up, linear in the number of tokens (Esser et al. 2024, section 5.3.2)."""
    config: Any = scheduler.config
    first, last = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    tokens = grid[0] * grid[1] // PATCH**2
    return float(low + (high - low) * (tokens - first) / (last - first))


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Each 2x2 patch becomes one token: (rows, C, h, w) -> (rows, h / 2 * w / 2, 4 C)."""
    return F.pixel_unshuffle(latents, PATCH).flatten(2).transpose(1, 2)


def unpack(tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The inverse: (rows, h / 2 * w / 2, 4 C) -> (rows, C, h, w), for a ``grid`` of (h, w)."""
    patches = (grid[0] // PATCH, grid[1] // PATCH)
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, patches), PATCH)
