"""Uploads so small that the queue is what is tried, not the model."""

import io

import numpy as np
from PIL import Image


def noise_and_mask(seed: int) -> tuple[bytes, bytes]:
    """A photo of 96 px and a mask of a fifth of it, both PNG."""
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (96, 96, 3), np.uint8)
    mask = np.zeros((96, 96), np.uint8)
    mask[30:60, 20:70] = 255
    return _png(photo), _png(mask)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
