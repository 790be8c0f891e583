"""Holes filled smoothly from their surroundings: what a repaint starts from, and what some networks are shown.

The fill is the surface of least bending over the hole (the biharmonic equation, Laplacian of the Laplacian = 0), as
scikit-image's ``inpaint_biharmonic`` solves it exactly in a hundred times the time. Here a pyramid does it: each level
starts from the enlarged solution of the next smaller one and needs a few rounds only.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Hole = NDArray[np.bool_]

MARGIN_PX = 16
"""Surroundings of the hole's box that are looked at."""
COARSEST_PX = 6
WORK_PX = 6 * 256 * 256
"""Pixels that a level may touch: it sets the number of rounds, many at small levels, two at least at large ones."""
FEWEST, MOST = 2, 32
TINY = 1e-6


def fill(image: Pixels, hole: Hole) -> Pixels:
    """Fill the pixels where ``hole`` is true; the others are returned as they are.

    Args:
        image: (H, W, 3); what it holds in the hole does not matter.
        hole: (H, W).

    Returns:
        A new (H, W, 3) picture.
    """
    left, top, width, height = cv2.boundingRect(hole.view(np.uint8))
    rows = slice(max(top - MARGIN_PX, 0), top + height + MARGIN_PX)
    columns = slice(max(left - MARGIN_PX, 0), left + width + MARGIN_PX)
    part = hole[rows, columns]
    filled = image.copy()
    if part.any():
        smooth = _solve(image[rows, columns].astype(np.float32), part)
        filled[rows, columns][part] = (smooth[part] + 0.5).clip(0, 255).astype(np.uint8)
    return filled


def _solve(image: Floats, hole: Hole) -> Floats:
    """``image``, (h, w, 3), with its hole filled: first at half the size, then here."""
    height, width = hole.shape
    known = (~hole).astype(np.float32)
    if min(height, width) <= COARSEST_PX or not hole.any():
        start = np.broadcast_to(_mean(image, known), image.shape)
    else:
        half = (-(-width // 2), -(-height // 2))
        weight = cv2.resize(known, half, interpolation=cv2.INTER_AREA)
        small = cv2.resize(image * known[..., None], half, interpolation=cv2.INTER_AREA)
        coarse = _solve(small / np.maximum(weight, TINY)[..., None], weight < TINY)
        start = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return _relax(np.where(hole[..., None], start, image).astype(np.float32), hole)


def _mean(image: Floats, known: Floats) -> Floats:
    """The mean colour of what is known, (3,)."""
    weight = known[..., None]
    return np.asarray((image * weight).sum((0, 1)) / max(float(weight.sum()), 1.0), dtype=np.float32)


def _relax(surface: Floats, hole: Hole) -> Floats:
    """Conjugate gradients (Hestenes & Stiefel 1952) against the bending of the surface, in the hole only."""
    free = np.repeat(hole.astype(np.float32)[..., None], 3, axis=2)
    rest = -_bending(surface, free)
    direction, size = rest, float(np.vdot(rest, rest))
    for _ in range(max(FEWEST, min(WORK_PX // hole.size, MOST))):
        if size < TINY:
            break
        bent = _bending(direction, free)
        step = size / float(np.vdot(direction, bent))
        surface = cv2.scaleAdd(direction, step, surface)
        rest = cv2.scaleAdd(bent, -step, rest)
        before, size = size, float(np.vdot(rest, rest))
        direction = cv2.scaleAdd(direction, size / before, rest)
    return surface


def _bending(surface: Floats, free: Floats) -> Floats:
    """The Laplacian of the Laplacian where ``free`` is 1; beyond its edge the surface goes on level."""
    flat = cv2.Laplacian(surface, -1, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.multiply(cv2.Laplacian(flat, -1, borderType=cv2.BORDER_REPLICATE), free), dtype=np.float32)
