"""A photo with room around it: what ``task=extend`` paints on.

The new borders continue the colours of the photo's edge, the more blurred along the edge the farther out, so that a
horizon goes on and grains do not become streaks. A fill of least bending (``fill/biharmonic.py``) would let the colours
along the edge run into one another: it has nothing to hold on to at the far side.
"""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs.errors import Undecodable
from jobs.extend_fields import Borders
from jobs.schema import Extension
from worker.pixels.masks import Values
from worker.pixels.pictures import Picture, Pixels

Floats = NDArray[np.float32]

EDGE_PX = 4
"""Rows of the photo whose mean goes on."""
SPREAD = 0.25
"""Standard deviation of the blur, in pixels along the edge for each pixel away from it."""
SIGMAS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Those that are computed; what lies between is mixed from the next two."""
BAND_PX = 64
"""Rows that are made at a time."""
TINY = 1e-3


def extended(picture: Picture, extension: Extension | None, mask: Pixels) -> Picture:
    """The picture with the borders around it. Their alpha is that of the nearest pixel; the paste makes them opaque.

    Raises Undecodable where the mask, (H, W), does not have the size that this comes to.
    """
    left, top, right, bottom = _borders(extension)
    width, height = picture.size[0] + left + right, picture.size[1] + top + bottom
    if mask.shape != (height, width):
        raise Undecodable(f"The mask is {mask.shape} and the image {(height, width)}.")
    if extension is None:
        return picture
    rgb, alpha = picture.rgb, picture.alpha
    across = _taller(rgb.swapaxes(0, 1), None if alpha is None else alpha.T, left, right).swapaxes(0, 1)
    if alpha is not None:
        alpha = np.asarray(cv2.copyMakeBorder(alpha, 0, 0, left, right, cv2.BORDER_REPLICATE), np.uint8)
    rgb = _taller(across, alpha, top, bottom)
    if alpha is not None:
        alpha = np.asarray(cv2.copyMakeBorder(alpha, top, bottom, 0, 0, cv2.BORDER_REPLICATE), np.uint8)
    larger = replace(picture, rgb=np.ascontiguousarray(rgb), alpha=alpha, wide=None)
    return larger if picture.wide is None else replace(larger, wide=_framed(picture.wide, larger.pixels, extension))


def _framed(photo: Values, larger: Values, extension: Extension) -> NDArray[np.uint16]:
    """The ``larger`` picture, of 8 bits, with the values of the photo itself, of 16, at its place."""
    framed = larger * np.uint16(257)
    left, top, right, bottom = extension.photo
    framed[top:bottom, left:right] = photo
    return framed


def _borders(extension: Extension | None) -> Borders:
    return (extension.left, extension.top, extension.right, extension.bottom) if extension else (0, 0, 0, 0)


def _taller(rgb: Pixels, alpha: Pixels | None, above: int, below: int) -> Pixels:
    """(H, W, 3) with rows above and below it; ``alpha``, (H, W), says what its colours weigh."""
    made = np.empty((above + len(rgb) + below, *rgb.shape[1:]), np.uint8)
    made[above : above + len(rgb)] = rgb
    for rows, edge in ((made[:above][::-1], slice(EDGE_PX)), (made[above + len(rgb) :], slice(-EDGE_PX, None))):
        if len(rows):
            weight = np.full(rgb[edge].shape[:2], 255, np.uint8) if alpha is None else alpha[edge]
            _continue(rows, rgb[edge], weight)
    return made


def _continue(rows: Pixels, edge: Pixels, alpha: Pixels) -> None:
    """Write (h, W, 3), the first row next to the photo's ``edge``, (e, W, 3), whose transparent pixels count little."""
    weight = (alpha.astype(np.float32) / 255 + TINY)[..., None]
    colours, weight = (edge * weight).mean(axis=0, keepdims=True), weight.mean(axis=0, keepdims=True)
    blurred = [_blurred(colours, sigma) / _blurred(weight, sigma) for sigma in SIGMAS]
    levels = np.concatenate(blurred)  # (levels, W, 3)
    for top in range(0, len(rows), BAND_PX):
        away = np.arange(top, min(top + BAND_PX, len(rows))) + 1.0
        at = np.log2(np.clip(SPREAD * away, SIGMAS[0], SIGMAS[-1]) / SIGMAS[0])
        first = np.minimum(at.astype(np.intp), len(SIGMAS) - 2)
        share = (at - first).astype(np.float32)[:, None, None]
        band = levels[first] * (1 - share) + levels[first + 1] * share
        rows[top : top + BAND_PX] = (band + 0.5).clip(0, 255).astype(np.uint8)


def _blurred(row: Floats, sigma: float) -> Floats:
    """(1, W, C), blurred along it."""
    blurred = cv2.GaussianBlur(row, (2 * round(3 * sigma) + 1, 1), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.float32).reshape(row.shape)
