"""Fill holes smoothly: the surface continues colours and slopes of the surroundings.

The fill is the surface of least bending over the hole (the biharmonic equation, Laplacian of the Laplacian = 0), as
scikit-image's ``inpaint_biharmonic`` solves it exactly and slowly (``bench.quality`` times both). Here a pyramid does
it: each level starts from the enlarged solution of the next smaller one, and a few rounds of conjugate gradients
bring it nearer, each of them led by a multigrid cycle over the levels below (Briggs, Henson & McCormick 2000, chapter
3).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Hole = NDArray[np.bool_]

MARGIN_PX = 16
"""Surroundings of the hole's box that are looked at."""
COARSEST_PX = 6
ROUNDS, LAST_ROUNDS = 3, 8
"""Of conjugate gradients at a level, and at the smallest one."""
WORK_PX = 6 * 256 * 256
"""Pixels that the rounds of a level may touch: large levels have fewer, one at least."""
SMOOTHING = (1 / 55.8, 1 / 16.2)
"""Steps against the residual: the two Chebyshev weights for 8 to 64, the upper part of the spectrum of the bending."""
COARSE_STEP = 8.0
"""Factor of a coarser level's right side. Bending counts 16 times as much at twice the pixel; half converged best."""
TINY = 1e-6


def smooth_fill(image: Pixels, hole: Hole) -> Pixels:
    """Fill the pixels where ``hole`` is true; the others are returned as they are.

    Args:
        image: (H, W, 3); what it holds in the hole does not matter.
        hole: (H, W).

    Returns:
        A new (H, W, 3) picture.
    """
    filled = image.copy()
    if hole.any():
        window = window_of(hole, MARGIN_PX)
        part, missing = image[window], hole[window]
        smooth = _solve(part.astype(np.float32), _pyramid(missing))
        rounded = (smooth + 0.5).clip(0, 255).astype(np.uint8)
        filled[window] = cv2.copyTo(rounded, missing.view(np.uint8), part.copy())
    return filled


@dataclass
class Level:
    """The hole at one size, and arrays that every round writes anew instead of making them anew."""

    hole: Hole  # (h, w)

    def __post_init__(self) -> None:
        self.free = _three(self.hole.astype(np.float32))
        self.flat, self.bent, self.left, self.error = (np.empty_like(self.free) for _ in range(4))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as OpenCV has it."""
        return self.hole.shape[1], self.hole.shape[0]

    def bend(self, surface: Floats) -> Floats:
        """The Laplacian of the surface's Laplacian in the hole, 0 outside; beyond its edge the surface is level."""
        cv2.Laplacian(surface, -1, dst=self.flat, borderType=cv2.BORDER_REPLICATE)
        cv2.Laplacian(self.flat, -1, dst=self.bent, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(cv2.multiply(self.bent, self.free, dst=self.bent))

    def smooth(self, rest: Floats, weight: float) -> None:
        """A step of ``error`` towards the surface whose bending is ``rest``."""
        cv2.scaleAdd(self.remainder(rest), weight, self.error, dst=self.error)

    def remainder(self, rest: Floats) -> Floats:
        """``rest`` minus the bending of ``error``."""
        return np.asarray(cv2.subtract(rest, self.bend(self.error), dst=self.left))


def _pyramid(hole: Hole) -> list[Level]:
    """The hole at its size, at half of it and so on: of a pixel all four must be in the hole, for it to be."""
    levels = [Level(hole)]
    while min(levels[-1].size) > COARSEST_PX and levels[-1].hole.any():
        known = (~levels[-1].hole).astype(np.float32)
        levels.append(Level(cv2.resize(known, _half(levels[-1].size), interpolation=cv2.INTER_AREA) < TINY))
    return levels


def _solve(image: Floats, levels: Sequence[Level]) -> Floats:
    """``image``, (h, w, 3), with its hole filled: first at half the size, then here."""
    level, *coarser = levels
    known = (~level.hole).astype(np.float32)
    if coarser:
        half = coarser[0].size
        weight = cv2.resize(known, half, interpolation=cv2.INTER_AREA)
        small = cv2.resize(cv2.multiply(image, _three(known)), half, interpolation=cv2.INTER_AREA)
        coarse = _solve(small / np.maximum(weight, TINY)[..., None], coarser)
        start = cv2.resize(coarse, level.size, interpolation=cv2.INTER_CUBIC)
        rounds = max(1, min(WORK_PX // level.hole.size, ROUNDS))
    else:
        start, rounds = np.broadcast_to(_mean(image, known), image.shape).copy(), LAST_ROUNDS
    surface = cv2.copyTo(image, known.astype(np.uint8), start)
    return _relax(surface, levels, rounds) if level.hole.any() else surface


def _relax(surface: Floats, levels: Sequence[Level], rounds: int) -> Floats:
    """Conjugate gradients in their flexible form (Notay 2000), because cycles differ slightly as maps."""
    level = levels[0]
    rest = -level.bend(surface)
    direction = _cycle(levels, rest).copy()
    size = float(np.vdot(rest, direction))
    for _ in range(rounds - 1):
        step = _descend(surface, direction, size, level)
        before = rest.copy()
        cv2.scaleAdd(level.bent, -step, rest, dst=rest)
        led = _cycle(levels, rest)
        turn = float(np.vdot(led, cv2.subtract(rest, before, dst=before))) / max(size, TINY)
        cv2.scaleAdd(direction, turn, led, dst=direction)
        size = float(np.vdot(rest, led))
    _descend(surface, direction, size, level)
    return surface


def _descend(surface: Floats, direction: Floats, size: float, level: Level) -> float:
    """Go along ``direction`` as far as the bending falls; how far that is."""
    step = size / max(float(np.vdot(direction, level.bend(direction))), TINY)
    cv2.scaleAdd(direction, step, surface, dst=surface)
    return step


def _cycle(levels: Sequence[Level], rest: Floats) -> Floats:
    """Approximate the surface whose bending is ``rest``: smooth, correct by the coarser levels, smooth (a V-cycle)."""
    level, *coarser = levels
    np.multiply(rest, SMOOTHING[0], out=level.error)
    level.smooth(rest, SMOOTHING[1])
    if coarser:
        passed = cv2.resize(level.remainder(rest), coarser[0].size, interpolation=cv2.INTER_AREA)
        error = _cycle(coarser, cv2.multiply(passed, coarser[0].free, scale=COARSE_STEP))
        finer = cv2.resize(error, level.size, interpolation=cv2.INTER_LINEAR)
        cv2.add(level.error, cv2.multiply(finer, level.free), dst=level.error)
    level.smooth(rest, SMOOTHING[1])
    level.smooth(rest, SMOOTHING[0])
    return level.error


def _half(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // 2), -(-size[1] // 2)


def _three(values: Floats) -> Floats:
    """The same for each colour, (h, w, 3)."""
    return np.asarray(cv2.merge([values] * 3), dtype=np.float32)


def _mean(image: Floats, known: Floats) -> Floats:
    """The mean colour of what is known, (3,)."""
    weight = known[..., None]
    return np.asarray((image * weight).sum((0, 1)) / max(float(weight.sum()), 1.0), dtype=np.float32)


def window_of(hole: Hole, margin_px: int) -> tuple[slice, slice]:
    """Rows and columns of the hole's box and its surroundings."""
    left, top, width, height = cv2.boundingRect(hole.view(np.uint8))
    rows = slice(max(top - margin_px, 0), top + height + margin_px)
    return rows, slice(max(left - margin_px, 0), left + width + margin_px)
