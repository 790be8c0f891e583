"""Holes filled from their surroundings: what a repaint starts from, and what some networks are shown.

A smooth surface continues colours and slopes (``biharmonic.py``). The fine detail of the surroundings is added to it,
mirrored at the hole's edge: without it a hole is a blur, which the eye finds at once.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from worker.pixels.fill.biharmonic import Floats, Hole, Pixels, smooth_fill, window_of

Places = NDArray[np.int32]
"""Pixels by their index in the flattened picture, or by their rows or columns."""

FINE_PX = 2.5
"""Standard deviation of the Gaussian; detail is the picture minus itself blurred by it."""
AMOUNT = 0.7
"""Share of the detail that is added: less than 1, as the mean of all plausible details is a blur."""
EDGE = 20.0
"""Grey levels at which detail is limited: texture continues into a hole, outlines do not."""
TINY = 1e-3
NOTHING_KNOWN = 127
"""The grey of a picture without any known pixel."""


def fill(image: Pixels, hole: Hole) -> Pixels:
    """Fill the pixels where ``hole`` is true; the others are returned as they are.

    Args:
        image: (H, W, 3); what it holds in the hole does not matter.
        hole: (H, W).

    Returns:
        A new (H, W, 3) picture.
    """
    return textured(smooth_fill(image, hole), image, hole)


def textured(filled: Pixels, image: Pixels, hole: Hole, reach_px: float = math.inf) -> Pixels:
    """A picture whose hole is filled without detail, with that of the surroundings; changed in place.

    ``reach_px``: from how far beyond the edge detail is taken; deeper in the hole it is mirrored to and fro.
    """
    if hole.any() and not hole.all():
        depth = int(cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_C, 3).max())
        window = window_of(hole, depth + round(3 * FINE_PX))
        missing = np.ascontiguousarray(hole[window])
        places = np.flatnonzero(missing).astype(np.int32)
        fine = _mirrored(_detail(image[window], missing), missing, places, reach_px)
        part = filled[window].copy()
        colours = part.reshape(-1, 3)
        colours[places] = (colours.take(places, axis=0) + fine + 0.5).clip(0, 255).astype(np.uint8)
        filled[window] = part
    return filled


def soft_fill(image: Pixels, mask: Pixels) -> Pixels:
    """Fill a hole of soft values, (H, W), 255 wholly missing: what is missing least is what the rest is filled from."""
    return fill(image, mask > mask.min()) if mask.min() < 255 else np.full_like(image, NOTHING_KNOWN)


def _detail(image: Pixels, hole: Hole) -> Floats:
    """Each known pixel minus the weighted mean around it, (H, W, 3); 0 in the hole."""
    weight = (~hole).astype(np.float32)
    known = cv2.merge([weight] * 3)
    part = cv2.multiply(image.astype(np.float32), known)
    blurred, weight = (cv2.GaussianBlur(values, (0, 0), FINE_PX) for values in (part, weight))
    around = cv2.divide(blurred, cv2.merge([weight + TINY] * 3), dst=blurred)
    return np.asarray(cv2.multiply(cv2.subtract(part, around, dst=around), known, dst=around))


def _mirrored(detail: Floats, hole: Hole, places: Places, reach_px: float) -> Floats:
    """For each of the hole's places the detail as far beyond the nearest edge as it lies within, (places, 3)."""
    height, width = hole.shape
    _, labels = cv2.distanceTransformWithLabels(hole.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    labels, known = labels.reshape(-1), np.flatnonzero(~hole).astype(np.int32)
    place = np.empty(len(known) + 1, np.int32)
    place[labels.take(known)] = known  # each known pixel has a label of its own
    (y, x), (edge_y, edge_x) = (np.divmod(at, np.int32(width)) for at in (places, place.take(labels.take(places))))
    down, across = edge_y - y, edge_x - x
    if reach_px < math.inf:
        away = np.hypot(down, across)
        nearer = (reach_px - np.abs(reach_px - away % (2 * reach_px))) / np.maximum(away, 1)
        down, across = (np.rint(part * nearer).astype(np.int32) for part in (down, across))
    beyond = _inside(edge_y + down, height) * np.int32(width) + _inside(edge_x + across, width)
    found = detail.reshape(-1, 3).take(beyond, axis=0)
    strength = np.sqrt(np.einsum("pc,pc->p", found, found) / 3) + TINY
    return np.asarray(found * (AMOUNT * EDGE * np.tanh(strength / EDGE) / strength)[:, None])


def _inside(at: Places, size: int) -> Places:
    """Rows or columns beyond a side of the picture, mirrored at that side."""
    folded = np.abs(at)
    return np.asarray(np.minimum(folded, 2 * size - 2 - folded).clip(0, size - 1))
