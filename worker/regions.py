"""The part of the picture that is run: chosen around the mask, cut out at native pixels, pasted back.

Sides come from a short list, so that crops of different photos have one shape and share a batch. A region may reach
over the picture's edge (small pictures): the canvas is filled up there with the edge's pixels, and cut off again.
Pictures are uint8, (H, W, 3); boxes are ``(left, top, right, bottom)`` in pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]

GRID_PX = 64
"""Sides are multiples of this: a VAE shrinks 8x, and a U-Net up to 8x more."""

BAND_PX = 32
"""Rows that are compared at a time."""


@dataclass(frozen=True)
class Region:
    """A box of the picture, and the size of the canvas (width, height) it is run at."""

    box: Box
    canvas: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        left, top, right, bottom = self.box
        return right - left, bottom - top


def plan_region(size: tuple[int, int], bbox: Box, padding_px: int, crop: bool, sides: tuple[int, int]) -> Region:
    """Choose the region for a mask.

    Args:
        size: the picture's width and height.
        bbox: the mask's bounding box.
        padding_px: surroundings wanted on each side of it.
        crop: False takes in the whole picture.
        sides: the shortest and the longest canvas side of the model, multiples of 64.

    Returns:
        The region. Its canvas has native pixels unless the box is longer than the longest side; then it is shrunk.
    """
    if not crop:
        bbox, padding_px = (0, 0, *size), 0
    lengths = (bbox[2] - bbox[0], bbox[3] - bbox[1])
    wanted = [min(length + 2 * padding_px, limit) for length, limit in zip(lengths, size, strict=True)]
    scale = min(1.0, sides[1] / max(wanted))
    buckets = bucket_sides(*sides) if crop else range(GRID_PX, sides[1] + 1, GRID_PX)
    width, height = (next(side for side in buckets if side >= int(length * scale)) for length in wanted)
    left, right = _place(bbox[0] + bbox[2], round(width / scale), size[0])
    top, bottom = _place(bbox[1] + bbox[3], round(height / scale), size[1])
    return Region((left, top, right, bottom), (width, height))


def _place(twice_centre: int, length: int, limit: int) -> tuple[int, int]:
    """Ends of a span of ``length`` about a centre, moved into ``0..limit`` if it fits there, else centred on it."""
    start = (twice_centre - length) // 2
    start = min(max(start, 0), limit - length) if length <= limit else (limit - length) // 2
    return start, start + length


def bucket_sides(shortest: int, longest: int) -> list[int]:
    """The sides a canvas may have: steps of a half up to the double, as in 256, 384, 512, 768, 1024."""
    sides, side = [], shortest
    while side < longest:
        sides += [side, -(-side * 3 // 2 // GRID_PX) * GRID_PX]
        side *= 2
    return [side for side in sides if side < longest] + [longest]


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
