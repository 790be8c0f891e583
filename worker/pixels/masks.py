"""The mask in the worker: grown and feathered in pixels, shrunk to the latent grid, released step by step.

White / 1 means repaint. What grey values mean is in ``jobs/mask_values.py``.
Pixel masks are uint8, (H, W), 0 to 255; latent masks are float, (1, 1, h, w), 0 to 1.
"""

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
Values = np.ndarray[Any, Any]
"""uint8 or uint16."""

DISC_PX = 12
"""Radius of the discs that a large dilation is made of; a chain of small ones is far cheaper than one large one."""


def effective_mask(mask: Mask, grow_px: int, feather_px: int) -> Mask:
    """Dilate by ``grow_px``, then soften the edge outwards over ``feather_px``: no pixel is less than it was.

    Only the mask's box and what is in reach of it is looked at. The input is left as it is.
    """
    box, reach = bounding_box(mask), grow_px + feather_px
    if box is None or not reach:
        return mask
    window = (slice(max(box[1] - reach, 0), box[3] + reach), slice(max(box[0] - reach, 0), box[2] + reach))
    effective = mask.copy()
    effective[window] = _feathered(_dilated(mask[window], grow_px), feather_px)
    return effective


def _feathered(mask: Mask, radius_px: int) -> Mask:
    """Half of the reach is dilated, the other half blurred: the ramp begins at the edge and ends at ``radius_px``."""
    if not radius_px:
        return mask
    blur_px = radius_px // 2
    wide = _dilated(mask, radius_px - blur_px)
    size = 2 * blur_px + 1
    blurred = cv2.GaussianBlur(wide, (size, size), max(blur_px, 1) / 2, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(np.maximum(mask, blurred), np.uint8)


def _dilated(mask: Mask, radius_px: int) -> Mask:
    left = radius_px
    while left > 0:
        radius = min(left, DISC_PX)
        mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))
        left -= radius
    return mask


def blended(known: Values, painted: Values, weight: Mask) -> Values:
    """``round((weight * painted + (255 - weight) * known) / 255)``, (h, w, C); ``weight`` is (h, w), uint8.

    Both are uint8 or both uint16, and so is what is returned.
    """
    wide: Values = weight[..., None].astype(np.uint16 if known.dtype == np.uint8 else np.uint32)
    return np.asarray((wide * painted + (255 - wide) * known + 127) // 255, known.dtype)


def bounding_box(mask: Mask) -> tuple[int, int, int, int] | None:
    """``(left, top, right, bottom)`` of the pixels above 0; None if there are none."""
    left, top, width, height = cv2.boundingRect(mask)
    return (left, top, left + width, top + height) if width and height else None


def is_soft(mask: Mask) -> bool:
    """Whether any pixel lies between 0 and 255."""
    return cv2.countNonZero(cv2.inRange(mask, 1, 254)) > 0  # several times faster than comparing in NumPy


def latent_mask(mask: torch.Tensor, factor: int) -> torch.Tensor:
    """Shrink a pixel mask to the latent grid: a cell takes its largest pixel, so that thin strokes are obeyed too.

    diffusers takes the nearest pixel instead (``F.interpolate``), which loses strokes thinner than a cell; the two
    agree on masks that follow the grid.

    Args:
        mask: (H, W), uint8, both divisible by ``factor``; on any device.
        factor: pixels a latent cell spans.

    Returns:
        (1, 1, H / factor, W / factor), 0 to 1.
    """
    return F.max_pool2d(mask[None, None].float(), factor) / 255


def held(mask: torch.Tensor, step: torch.Tensor | int, steps: torch.Tensor | int) -> torch.Tensor:
    """How far each cell is held to the original after ``step`` (counted from 0) of ``steps``: 1 wholly, 0 not at all.

    Of a mask of several images, (rows, 1, h, w), each can be at another step: (rows, 1, 1, 1).

    A cell of value 1 is free from the first step on, one of value 0 never. Between them a cell is repainted by the last
    ``value`` share of the steps, as if it alone were run at that strength (Levin & Fried 2023, Differential Diffusion,
    algorithm 1). The step in which it becomes free counts in part, so that a value a little below 1 does not cost a
    whole step.
    """
    return ((1 - mask.float()) * steps - step).clamp(0, 1)
