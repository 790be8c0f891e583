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
REACH_PX = 2
"""What the bending of a pixel depends on."""
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
    filled = image.copy()
    if hole.any():
        window = _window(hole, MARGIN_PX)
        part, missing = image[window], hole[window]
        smooth = _solve(part.astype(np.float32), missing)
        rounded = (smooth + 0.5).clip(0, 255).astype(np.uint8)
        filled[window] = cv2.copyTo(rounded, missing.view(np.uint8), part.copy())
    return filled


def _solve(image: Floats, hole: Hole) -> Floats:
    """``image``, (h, w, 3), with its hole filled: first at half the size, then here."""
    height, width = hole.shape
    known = (~hole).astype(np.float32)
    if min(height, width) <= COARSEST_PX or not hole.any():
        start = np.broadcast_to(_mean(image, known), image.shape).copy()
    else:
        half = (-(-width // 2), -(-height // 2))
        weight = cv2.resize(known, half, interpolation=cv2.INTER_AREA)
        small = cv2.resize(cv2.multiply(image, _three(known)), half, interpolation=cv2.INTER_AREA)
        coarse = _solve(small / np.maximum(weight, TINY)[..., None], weight < TINY)
        start = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return _relax(cv2.copyTo(image, (~hole).view(np.uint8), start), hole)


def _three(values: Floats) -> Floats:
    """The same for each colour, (h, w, 3)."""
    return np.asarray(cv2.merge([values] * 3), dtype=np.float32)


def _mean(image: Floats, known: Floats) -> Floats:
    """The mean colour of what is known, (3,)."""
    weight = known[..., None]
    return np.asarray((image * weight).sum((0, 1)) / max(float(weight.sum()), 1.0), dtype=np.float32)


def _relax(surface: Floats, hole: Hole) -> Floats:
    """Conjugate gradients (Hestenes & Stiefel 1952) against the bending of the surface, in the hole only."""
    rounds = max(FEWEST, min(WORK_PX // hole.size, MOST))
    window = _window(hole, REACH_PX)
    inner, free = surface[window].copy(), _three(hole[window].astype(np.float32))
    flat, bent = np.empty_like(inner), np.empty_like(inner)  # written anew in every round, not made anew
    _bend(inner, free, flat, bent)
    rest, direction = -bent, -bent
    size = float(np.vdot(rest, rest))
    for _ in range(rounds):
        if size < TINY:
            break
        _bend(direction, free, flat, bent)
        step = size / float(np.vdot(direction, bent))
        cv2.scaleAdd(direction, step, inner, dst=inner)
        cv2.scaleAdd(bent, -step, rest, dst=rest)
        before, size = size, float(np.vdot(rest, rest))
        cv2.scaleAdd(direction, size / before, rest, dst=direction)
    surface[window] = inner
    return surface


def _bend(surface: Floats, free: Floats, flat: Floats, bent: Floats) -> None:
    """Write the Laplacian into ``flat``, and its Laplacian into ``bent`` where ``free`` is 1, else 0.

    Beyond its edge the surface goes on level.
    """
    cv2.Laplacian(surface, -1, dst=flat, borderType=cv2.BORDER_REPLICATE)
    cv2.Laplacian(flat, -1, dst=bent, borderType=cv2.BORDER_REPLICATE)
    cv2.multiply(bent, free, dst=bent)


def _window(hole: Hole, margin_px: int) -> tuple[slice, slice]:
    """Rows and columns of the hole's box and its surroundings."""
    left, top, width, height = cv2.boundingRect(hole.view(np.uint8))
    rows = slice(max(top - margin_px, 0), top + height + margin_px)
    return rows, slice(max(left - margin_px, 0), left + width + margin_px)
