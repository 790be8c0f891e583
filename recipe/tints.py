"""Holes tinted in a colour drawn by chance: there only the caption can tell the colour, so the words are learnt."""

from __future__ import annotations

import colorsys

import numpy as np
import torch
from torch import Tensor

from recipe.words import HUE_ENDS

GREY_SHARE = 0.12
LUMA = (0.299, 0.587, 0.114)


def tint(rng: np.random.Generator, image: Tensor, mask: Tensor) -> Tensor:
    """`image` (3, H, W) in [-1, 1] with its hole (`mask` 1, (1, H, W)) in one random colour.

    The hole's own light and shade are kept, at times weakened, so it still looks like what it shows.
    """
    colour = torch.tensor(draw_colour(rng)).mul(2).sub(1).view(3, 1, 1)
    light = (image * torch.tensor(LUMA).view(3, 1, 1)).sum(0, keepdim=True)
    shade = light - (light * mask).sum() / mask.sum().clamp(min=1)
    tinted = (colour + float(rng.uniform(0.4, 1.0)) * shade).clamp(-1, 1)
    return torch.where(mask > 0.5, tinted, image)


def draw_colour(rng: np.random.Generator) -> tuple[float, float, float]:
    """Red, green and blue in [0, 1]: every named hue as often as the others, mostly near its middle, and some greys."""
    which = int(rng.integers(len(HUE_ENDS)))
    begin, end = HUE_ENDS[which - 1] - (1.0 if which == 0 else 0.0), HUE_ENDS[which]
    hue = float(rng.triangular(begin, (begin + end) / 2, end)) % 1.0
    lightness = float(rng.uniform(0.12, 0.8))
    saturation = 0.0 if rng.random() < GREY_SHARE else float(rng.uniform(0.45, 1.0))
    return colorsys.hls_to_rgb(hue, lightness, saturation)
