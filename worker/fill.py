"""Holes filled from their surroundings: what a repaint starts from, and what some networks are shown.

A smooth surface goes on with colours and slopes (``worker.smooth_fill``), and the fine detail of what surrounds the
hole lies on it, mirrored at the hole's edge: without it a hole is a blur, and the eye finds it at once.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.smooth_fill import Hole, Pixels, smooth_fill, window_of

FINE_PX = 2.5
"""Detail is what a picture has beyond itself blurred by a Gaussian of this deviation."""
AMOUNT = 0.7
"""Of the detail: less than all of it, as the mean of what could be there is a blur."""
EDGE = 20.0
"""Grey levels that detail cannot pass, for texture goes on where outlines do not."""
TINY = 1e-3


def fill(image: Pixels, hole: Hole) -> Pixels:
    """Fill the pixels where ``hole`` is true; the others are returned as they are.

    Args:
        image: (H, W, 3); what it holds in the hole does not matter.
        hole: (H, W).

    Returns:
        A new (H, W, 3) picture.
    """
    filled = smooth_fill(image, hole)
    if hole.any() and not hole.all():
        depth = int(cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_C, 3).max())
        window = window_of(hole, depth + round(3 * FINE_PX))
        missing = hole[window]
        detailed = filled[window][missing] + _mirrored(_detail(image[window], missing), missing)
        filled[window][missing] = (detailed + 0.5).clip(0, 255).astype(np.uint8)
    return filled


def _detail(image: Pixels, hole: Hole) -> NDArray[np.float32]:
    """What each known pixel has beyond those around it, (H, W, 3); 0 in the hole."""
    known = (~hole).astype(np.float32)
    part = cv2.multiply(image.astype(np.float32), cv2.merge([known] * 3))
    blurred, weight = (cv2.GaussianBlur(values, (0, 0), FINE_PX) for values in (part, known))
    return np.asarray(part - blurred / (weight + TINY)[..., None]) * known[..., None]


def _mirrored(detail: NDArray[np.float32], hole: Hole) -> NDArray[np.float32]:
    """For each pixel of the hole the detail as far beyond the nearest edge as it lies within, (pixels, 3)."""
    height, width = hole.shape
    _, labels = cv2.distanceTransformWithLabels(hole.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    place = np.empty(int(labels.max()) + 1, np.int64)
    place[labels[~hole]] = np.flatnonzero(~hole)  # each known pixel has a label of its own
    y, x = np.nonzero(hole)
    edge_y, edge_x = np.divmod(place[labels[y, x]], width)
    found = detail[_inside(2 * edge_y - y, height), _inside(2 * edge_x - x, width)]
    strength = np.sqrt(np.square(found).mean(1, keepdims=True)) + TINY
    return np.asarray(AMOUNT * EDGE * np.tanh(strength / EDGE) / strength * found, dtype=np.float32)


def _inside(places: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Places beyond a side of the picture, mirrored at that side."""
    folded = np.abs(places)
    return np.where(folded < size, folded, 2 * size - 2 - folded).clip(0, size - 1)
