"""A picture whose subject is known: a red disc on a green ground, both with grain."""

from typing import Any

import cv2
import numpy as np

from tests.factories import png

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

SIZE = (120, 96)
DISC = (44, 50, 22)
"""Centre and radius."""
BOX = [18, 24, 70, 76]
ON, BESIDE = [44, 50, 1], [100, 20, 0]


def truth(size: tuple[int, int] = SIZE) -> Bytes:
    """(H, W) of 0 and 255, at any size of the same shape."""
    scale = size[0] / SIZE[0]
    x, y, radius = (round(value * scale) for value in DISC)
    return np.asarray(cv2.circle(np.zeros(size[::-1], np.uint8), (x, y), radius, 255, -1))


def picture(size: tuple[int, int] = SIZE) -> Bytes:
    """(H, W, 3), RGB."""
    grain = np.random.default_rng(3).integers(-12, 13, (size[1], size[0], 3))
    ground = np.where(truth(size)[..., None] > 0, (200, 40, 40), (50, 140, 60))
    return np.asarray((ground + grain).clip(0, 255), np.uint8)


def photo_of_subject(size: tuple[int, int] = SIZE) -> bytes:
    return png(picture(size))


def iou(one: Bytes, other: Bytes) -> float:
    """Intersection over union of two masks."""
    return float(((one > 0) & (other > 0)).sum() / ((one > 0) | (other > 0)).sum())
