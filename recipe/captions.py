"""Captions for training: what colour the hole is, at times what the photo shows, often nothing."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from recipe.words import colour_words, plain_title, things

EMPTY_SHARE, TITLE_SHARE, THING_SHARE = 0.5, 0.35, 0.3


def caption(rng: np.random.Generator, image: Tensor, mask: Tensor, title: str) -> str:
    """A caption for one example: `image` (3, H, W) in [-1, 1], `mask` (1, H, W) with 1 = the hole it speaks of.

    The empty part teaches the network to go without words: an empty prompt and classifier-free guidance need that.
    """
    if rng.random() < EMPTY_SHARE:
        return ""
    words = []
    with_title = rng.random() < TITLE_SHARE
    if not with_title or rng.random() < 0.5:
        words.append(colour_words(hole_colour(image, mask)))
    if with_title:
        words.append(plain_title(title))
    return " ".join(words).strip()


def tinted_caption(rng: np.random.Generator, image: Tensor, mask: Tensor) -> str:
    """Names the colour of a tinted hole, at times with a thing, which says nothing about the picture: "red car"."""
    words = colour_words(hole_colour(image, mask))
    return f"{words} {rng.choice(things())}" if rng.random() < THING_SHARE else words


def hole_colour(image: Tensor, mask: Tensor) -> tuple[float, float, float]:
    """The mean colour under the mask, in [0, 1]."""
    mean = (image * mask).sum((1, 2)) / mask.sum().clamp(min=1)
    red, green, blue = mean.add(1).div(2).clamp(0, 1).tolist()
    return red, green, blue
