"""The mask's life in the worker: grown and feathered in pixels, shrunk to the latent grid, released step by step.

White / 1 means repaint. Pixel masks are uint8, (H, W), 0 to 255; latent masks are float, (1, 1, h, w), 0 to 1.
"""

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

Mask = NDArray[np.uint8]

DISC_PX = 12
"""Radius of the discs that a large dilation is made of; a chain of small ones is far cheaper than one large one."""


def effective_mask(mask: Mask, grow_px: int, feather_px: int) -> Mask:
    """Dilate by ``grow_px`` and soften the edge over ``feather_px`` on both sides. The input is left as it is."""
    left = grow_px
    while left > 0:
        radius = min(left, DISC_PX)
        mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))
        left -= radius
    if feather_px:
        size = 2 * feather_px + 1
        feathered = cv2.GaussianBlur(mask, (size, size), feather_px / 2, borderType=cv2.BORDER_REPLICATE)
        mask = feathered if feathered.any() else mask  # a dot thinned out to nothing would be a mask not obeyed
    return mask


def bounding_box(mask: Mask) -> tuple[int, int, int, int] | None:
    """``(left, top, right, bottom)`` of the pixels above 0; None if there are none."""
    left, top, width, height = cv2.boundingRect(mask)
    return (left, top, left + width, top + height) if width and height else None


def is_soft(mask: Mask) -> bool:
    """Whether any pixel lies between 0 and 255."""
    return cv2.countNonZero(cv2.inRange(mask, 1, 254)) > 0  # several times faster than comparing in NumPy


def latent_mask(mask: Mask, factor: int) -> torch.Tensor:
    """Shrink a pixel mask to the latent grid: a cell takes its largest pixel, so that thin strokes are obeyed too.

    diffusers takes the nearest pixel instead (``F.interpolate``), which loses strokes thinner than a cell; the two
    agree on masks that follow the grid.

    Args:
        mask: (H, W), both divisible by ``factor``.
        factor: pixels a latent cell spans.

    Returns:
        (1, 1, H / factor, W / factor), 0 to 1.
    """
    height, width = mask.shape
    cells = mask.reshape(height // factor, factor, width // factor, factor).max(axis=(1, 3))
    return torch.from_numpy(cells.astype(np.float32) / 255)[None, None]


def release_steps(mask: torch.Tensor, steps: int) -> torch.Tensor:
    """The step before which each cell is held to the original: ``ceil((1 - value) * steps)``.

    A cell of value 1 is free from step 0 on, one of value 0 never (its release is ``steps``). Between them a cell is
    repainted by the last ``value`` share of the steps, as if it alone were run at that strength
    (Levin & Fried 2023, Differential Diffusion, algorithm 1).
    """
    return torch.ceil((1 - mask) * steps - 1e-6)


def held(release: torch.Tensor, index: int) -> torch.Tensor:
    """1 where a cell is still held to the original after step ``index`` (counted from 0), else 0."""
    return (release > index).to(torch.float32)
