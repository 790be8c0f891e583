"""Random holes shaped like the edits people make: boxes, ellipses, brush strokes and blobs."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]

LEAST_COVERAGE, MOST_COVERAGE = 0.02, 0.45


def draw_mask(rng: np.random.Generator, size_px: int) -> Mask:
    """(S, S) uint8, 1 = repaint: one or two shapes that cover between 2 % and 45 % of the square."""
    while True:
        mask = np.zeros((size_px, size_px), np.uint8)
        for _ in range(1 + int(rng.random() < 0.25)):
            shape = SHAPES[int(rng.choice(len(SHAPES), p=SHARES))]
            shape(mask, rng)
        if LEAST_COVERAGE <= mask.mean() <= MOST_COVERAGE:
            return mask


def draw_wide_mask(rng: np.random.Generator, size_px: int) -> Mask:
    """A box of at least half the square's width and height, which may be nearly all of it.

    Nothing at hand says what lies in the middle of such a hole: the network must make things up there, and every cell
    of it teaches; in a small hole the surroundings give most of the answer away.
    """
    mask = np.zeros((size_px, size_px), np.uint8)
    width, height = (int(size_px * rng.uniform(0.5, 0.97)) for _ in range(2))
    left, top = int(rng.integers(size_px - width)), int(rng.integers(size_px - height))
    mask[top : top + height, left : left + width] = 1
    return mask


def _box(mask: Mask, rng: np.random.Generator) -> None:
    size = mask.shape[0]
    width, height = (int(size * rng.uniform(0.12, 0.7)) for _ in range(2))
    left, top = int(rng.integers(size - width)), int(rng.integers(size - height))
    mask[top : top + height, left : left + width] = 1


def _ellipse(mask: Mask, rng: np.random.Generator) -> None:
    size = mask.shape[0]
    centre = [int(value) for value in rng.uniform(0.15, 0.85, 2) * size]
    axes = [int(value) for value in rng.uniform(0.08, 0.38, 2) * size]
    cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)


def _strokes(mask: Mask, rng: np.random.Generator) -> None:
    """A brush that wanders: a thick line of 3 to 9 pieces that turn a little at each joint."""
    size = mask.shape[0]
    for _ in range(int(rng.integers(1, 4))):
        thickness = max(2, int(size * rng.uniform(0.03, 0.13)))
        point, heading = rng.uniform(0.1, 0.9, 2) * size, rng.uniform(0, 2 * np.pi)
        for _ in range(int(rng.integers(3, 10))):
            heading += rng.normal(0, 0.6)
            step = size * rng.uniform(0.04, 0.16)
            end = np.clip(point + step * np.array([np.cos(heading), np.sin(heading)]), 0, size - 1)
            cv2.line(mask, _pixel(point), _pixel(end), 1, thickness)
            point = end


def _blob(mask: Mask, rng: np.random.Generator) -> None:
    """A closed outline whose radius swings around its mean in three low frequencies."""
    size = mask.shape[0]
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = np.ones_like(angles)
    for frequency in (1, 2, 3):
        radius += rng.uniform(0, 0.25) * np.cos(frequency * angles + rng.uniform(0, 2 * np.pi))
    radius *= size * rng.uniform(0.1, 0.33)
    outline = rng.uniform(0.2, 0.8, 2) * size + np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None]
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)


def _pixel(point: NDArray[np.float64]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


SHAPES = (_box, _ellipse, _strokes, _blob)
SHARES = (0.3, 0.15, 0.35, 0.2)
