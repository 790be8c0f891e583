"""Uploads so small that the queue is what is tried, not the model."""

import io

import numpy as np
from PIL import Image

from tests.factories import mask_with, png


def noise_and_mask(seed: int) -> tuple[bytes, bytes]:
    """A photo of 96 px and a mask of a fifth of it, both PNG."""
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (96, 96, 3), np.uint8)
    mask = mask_with(np.s_[30:60, 20:70], (96, 96))
    return png(photo), png(mask)


def pixels_of(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)
