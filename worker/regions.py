"""The part of the picture that is run (``jobs/regions.py``): cut out at native pixels, pasted back.

Where it reaches over the picture's edge the canvas is filled up with the edge's pixels, and cut off again. Pictures are
uint8, (H, W, 3).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs.regions import Region

Pixels = NDArray[np.uint8]

BAND_PX = 32
"""Rows that are compared at a time."""


def cut(pixels: Pixels, region: Region) -> Pixels:
    """The region's pixels on its canvas. Works for masks (H, W) too, which are 0 beyond the picture's edge."""
    height, width = pixels.shape[:2]
    left, top, right, bottom = region.box
    inside = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    above, below, before, after = max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width)
    if above or below or before or after:
        kind = cv2.BORDER_REPLICATE if pixels.ndim == 3 else cv2.BORDER_CONSTANT
        inside = cv2.copyMakeBorder(inside, above, below, before, after, borderType=kind, value=0)
    if region.size != region.canvas:
        inside = cv2.resize(inside, region.canvas, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(inside)


def paste(original: Pixels, canvas: Pixels, region: Region, mask: Pixels) -> Pixels:
    """Put the repainted canvas over the original where the mask asks for it.

    ``result = round((mask * canvas + (255 - mask) * original) / 255)``: exactly the original where the mask is 0,
    exactly the canvas where it is 255.

    Args:
        original: (H, W, 3).
        canvas: (h, w, 3), of the region's canvas size.
        region: where the canvas belongs.
        mask: the effective mask, (H, W).

    Returns:
        A new (H, W, 3) picture.
    """
    if region.size != region.canvas:
        canvas = cv2.resize(canvas, region.size, interpolation=cv2.INTER_CUBIC)
    height, width = original.shape[:2]
    left, top, right, bottom = region.box
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    painted = canvas[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left].astype(np.uint16)
    weight = mask[rows, columns, None].astype(np.uint16)
    result = original.copy()
    known = original[rows, columns].astype(np.uint16)
    result[rows, columns] = (weight * painted + (255 - weight) * known + 127) // 255
    return result


def changed_outside(original: Pixels, result: Pixels, mask: Pixels) -> int:
    """How many pixels differ where the mask is 0. Counted over the whole picture, not deduced."""
    changed = 0
    for top in range(0, len(original), BAND_PX):  # a band stays in the cache, and most have no difference at all
        band = slice(top, top + BAND_PX)
        differs = original[band] != result[band]
        if differs.any():
            red, green, blue = (differs[..., channel] for channel in range(3))
            changed += int(np.count_nonzero((red | green | blue) & (mask[band] == 0)))
    return changed
