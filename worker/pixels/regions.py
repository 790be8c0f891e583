"""The part of the picture that is run (``jobs/regions.py``): cut out onto its canvas, pasted back.

What the canvas has beyond the box is filled up with the edge's pixels. Pictures are uint8, (H, W, 3); what is pasted
into may be uint16.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs.mask_values import HIDDEN
from jobs.regions import Box, Region
from worker.pixels.masks import Values, blended

Pixels = NDArray[np.uint8]

MIN_WEIGHT = 16
"""Below this mean weight, of 255, a weighted mean in 8 bits is mostly rounding."""

BAND_PX = 32
"""Rows that are compared at a time."""


def cut(pixels: Pixels, region: Region, weight: Pixels | None = None) -> Pixels:
    """The region's pixels on its canvas: shrunk first where it has to be, and padded then.

    Args:
        pixels: (H, W, 3) or (H, W).
        region: where they lie.
        weight: how much each pixel counts where several become one, (H, W); all alike without it.

    Returns:
        (h, w, 3) or (h, w), of the region's canvas size.
    """
    inside = _inside(pixels, region)
    if region.size != region.run_px:
        if weight is None:
            inside = cv2.resize(inside, region.run_px, interpolation=cv2.INTER_AREA)
        else:
            inside = _weighted_mean(inside, _inside(weight, region), region.run_px)
    return padded(inside, region)


def cut_mask(mask: Pixels, region: Region) -> Pixels:
    """A mask on the region's canvas, (h, w): a canvas pixel takes the largest of its pixels, so that strokes survive.

    Where that would leave nothing known although the picture has something, what is masked least stays known.
    """
    inside = _inside(mask, region)
    if region.size == region.run_px:
        return padded(inside, region)
    across, down = (-(-length // run) + 2 for length, run in zip(region.size, region.run_px, strict=True))
    widest = cv2.dilate(inside, np.ones((down | 1, across | 1), np.uint8))
    shrunk = cv2.resize(widest, region.run_px, interpolation=cv2.INTER_NEAREST_EXACT)
    if shrunk.min() >= HIDDEN > inside.min():
        mean = cv2.resize(inside, region.run_px, interpolation=cv2.INTER_AREA)
        shrunk[mean == mean.min()] = 0
    return padded(shrunk, region)


def known(mask: Pixels, alpha: Pixels | None) -> NDArray[np.bool_]:
    """Which pixels can serve as surroundings, (H, W): kept by the mask and mostly opaque.

    Where none of those is opaque, all that are not wholly transparent count.
    """
    kept = mask < HIDDEN
    if alpha is None:
        return kept
    opaque = kept & (alpha > 255 - HIDDEN)
    return opaque if opaque.any() else kept & (alpha > 0)


def holds(places: NDArray[np.bool_], box: Box) -> bool:
    """Whether any of ``places``, (H, W), lies in the box."""
    left, top, right, bottom = box
    return bool(places[top:bottom, left:right].any())


def _inside(pixels: Pixels, region: Region) -> Pixels:
    left, top, right, bottom = region.box
    return pixels[top:bottom, left:right]


def _weighted_mean(pixels: Pixels, weight: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W, 3) shrunk to ``size``, each pixel by its weight; where there is none, by equal ones."""
    weight = weight * np.uint8(255 // max(int(weight.max()), 1))
    weighted = cv2.multiply(pixels, cv2.merge([weight] * 3), scale=1 / 255)
    part, total, plain = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (weight, weighted, pixels))
    mean = cv2.divide(total, cv2.merge([part] * 3), scale=255)
    return np.asarray(np.where((part >= MIN_WEIGHT)[..., None], mean, plain), np.uint8)


def padded(inside: Pixels, region: Region) -> Pixels:
    """What the box shows, on the region's canvas, whose remainder repeats the edge's pixels."""
    left, top, right, bottom = region.inner
    width, height = region.canvas
    if (width, height) != region.run_px:
        inside = cv2.copyMakeBorder(inside, top, height - bottom, left, width - right, borderType=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(inside)


def paste(original: Values, canvas: Pixels, region: Region, mask: Pixels) -> Values:
    """Put the repainted canvas over the original where the mask asks for it.

    ``result = round((mask * canvas + (255 - mask) * original) / 255)``: exactly the original where the mask is 0,
    exactly the canvas where it is 255. With alpha, painted is laid *over* the original (Porter & Duff 1984): opaque by
    the mask's weight, and colours under full transparency mix with nothing.

    Args:
        original: (H, W, 3), or (H, W, 4) with alpha, uint8; or uint16, in which all is computed then, with the canvas's
            values times 257.
        canvas: (h, w, 3), of the region's canvas size.
        region: where the canvas belongs.
        mask: the effective mask, (H, W).

    Returns:
        A new picture like ``original``.
    """
    x, y, x_end, y_end = region.inner
    painted = canvas[y:y_end, x:x_end]
    if region.size != region.run_px:
        painted = cv2.resize(painted, region.size, interpolation=cv2.INTER_CUBIC)
    result = original.copy()
    paste_onto(result, original, painted, region.box, mask)
    return result


def paste_onto(result: Values, original: Values, painted: Pixels, box: Box, mask: Pixels) -> None:
    """Write what was painted in a box, (h, w, 3), into ``result``, a picture like ``original``; see ``paste``."""
    left, top, right, bottom = box
    here = slice(top, bottom), slice(left, right)
    known, weight, part = original[here], mask[here], result[here]
    blend = _over if original.shape[2] == 4 else blended
    for row in range(0, len(part), BAND_PX):  # wide intermediate values of a band at a time, not of a picture
        band = slice(row, row + BAND_PX)
        part[band] = blend(known[band], _as_deep(painted[band], original.dtype), weight[band])


def _as_deep(painted: Pixels, depth: np.dtype[Any]) -> Values:
    return painted if depth == np.uint8 else painted * np.uint16(257)


def _over(known: Values, painted: Values, weight: Pixels) -> Values:
    """``painted`` (h, w, 3) of opacity ``weight`` (h, w) over ``known`` (h, w, 4) of its own; known where it is 0."""
    white = int(np.iinfo(known.dtype).max)
    wide: Values = weight[..., None].astype(np.uint32 if white == 255 else np.uint64)
    below = (255 - wide) * known[..., 3:]  # in 1 / (255 * white)
    opacity = white * wide + below
    colour = (white * wide * painted + below * known[..., :3] + opacity // 2) // np.maximum(opacity, 1)
    over = np.concatenate([colour, (opacity + 127) // 255], axis=2).astype(known.dtype)
    return np.where(wide == 0, known, over)


def changed_outside(original: Values, result: Values, mask: Pixels) -> int:
    """How many pixels differ, in colour or alpha, where the mask is 0. Counted over the whole picture, not deduced."""
    changed = 0
    for top in range(0, len(original), BAND_PX):  # a band stays in the cache, and most have no difference at all
        band = slice(top, top + BAND_PX)
        differs = original[band] != result[band]
        if differs.any():
            channels = [differs[..., channel] for channel in range(differs.shape[-1])]
            changed += int(np.count_nonzero(np.logical_or.reduce(channels) & (mask[band] == 0)))
    return changed
