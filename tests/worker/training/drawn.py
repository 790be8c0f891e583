"""Drawn pictures, and a composer over three of them."""

from __future__ import annotations

import cv2
import numpy as np

from tests.factories import inpaint_parameters
from worker.families.latent_diffusion import LatentDiffusion
from worker.training.composition import Choices, Composer
from worker.training.corpus import Corpus, Photo


def picture(seed: int, height: int = 96, width: int = 128) -> np.ndarray:
    """Smooth colours with some sharp discs on them."""
    rng = np.random.default_rng(seed)
    blobs = rng.integers(0, 256, (4, 4, 3), np.uint8)
    pixels: np.ndarray = cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        colour = [int(value) for value in rng.integers(0, 256, 3)]
        cv2.circle(pixels, centre, int(rng.integers(4, 20)), colour, -1)
    return pixels


def tiny_composer(family: LatentDiffusion, choices: Choices) -> Composer:
    """For a model of `tests.worker.tiny`, on three drawn pictures."""
    asked = inpaint_parameters(seed=0, scheduler="flow_euler" if family.flow else "ddim")
    photos = [Photo(f"{seed}.png", f"picture {seed}", picture(seed)) for seed in range(3)]
    return Composer(family, Corpus.of(photos), asked, choices)
