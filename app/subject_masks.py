"""A photo and a selection -> the mask of the subject, at the photo's size.

The subject is looked for in the photo shrunk to ``SMALL_PX`` pixels, whatever its size. Its edge is then brought to the
photo's own pixels by a guided filter, whose coefficients are computed in the small picture and applied to the large one
(He and Sun, "Fast Guided Filter", 2015), band by band. Away from the edge the filter changes nothing.
"""

import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from app.bands import BAND_PX, Pixels, pixels_of
from app.grabcut import find
from app.mask_reading import levels
from app.masks import TURNS, DecodedMask, found_mask
from app.selections import Selection
from app.uploads import opened, orientation_of
from jobs.errors import InvalidField
from jobs.samples import Layers

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

SMALL_PX = 2**16
"""Of these, GrabCut takes a second or two of processor time."""
SHORTEST_PX = 16
"""Of the shorter side of the small picture."""
LEAST_SCORE = 0.15
"""Below this, a mask is a guess; ``python -m bench.masks`` prints scores beside what they are worth."""
RADIUS_PX, EPSILON = 2, 1e-4
"""Of the guided filter, in pixels of the small picture and in squares of its grey, which goes to 1."""
BACK = {6: 8, 8: 6}
"""The orientation that undoes another; the others undo themselves."""


def find_mask(data: bytes, selection: Selection, max_pixels: int) -> tuple[DecodedMask | None, float]:
    """The mask and its score; no mask where the score is below ``LEAST_SCORE``.

    Raises InvalidImage, InvalidField, TooLarge.
    """
    with opened(data, max_pixels, "image") as image:
        orientation = orientation_of(image)
        pixels = pixels_of(image, data)
    factor = _factor(*pixels.size)
    small = _shrunk(pixels, factor)
    upright = TURNS.get(orientation, np.asarray)(small)
    width, height = pixels.size if orientation < 5 else pixels.size[::-1]
    selection.check_inside(width, height)
    found = find(np.ascontiguousarray(upright), selection.shrunk(factor))
    if found.score < LEAST_SCORE:
        return None, found.score
    subject = TURNS.get(BACK.get(orientation, orientation), np.asarray)(found.subject)
    mask = _enlarged(pixels, small, np.ascontiguousarray(subject), factor)
    del pixels
    mask = TURNS.get(orientation, np.asarray)(mask)
    if selection.subject == "background":
        np.subtract(255, mask, out=mask)
    return found_mask(mask, selection.sources, selection.subject, found.score), found.score


def _factor(width: int, height: int) -> int:
    """How many pixels become one, along each side. Raises InvalidField for a picture that is too narrow for that."""
    factor = max(1, math.isqrt(width * height // SMALL_PX))
    while -(-width // factor) * -(-height // factor) > SMALL_PX:
        factor += 1
    if min(width, height) < SHORTEST_PX * factor:
        raise InvalidField(
            f"image: {width} x {height} pixels are too narrow to find a subject in. Send a mask, or a part of it."
        )
    return factor


def _bands(size: tuple[int, int], factor: int) -> Iterator[slice]:
    """Rows of the small picture whose pixels of the large one are read together."""
    width, height = size
    step = max(1, BAND_PX // (width * factor))
    for top in range(0, -(-height // factor), step):
        yield slice(top, min(top + step, -(-height // factor)))


def _read(pixels: Pixels, rows: slice, factor: int) -> Bytes:
    """The pixels of these rows of the small picture, (h, w, 3), RGB; filled up at the right and at the bottom."""
    width, height = pixels.size
    bottom = min(height, rows.stop * factor)
    rgb = _rgb(pixels.read(slice(rows.start * factor, bottom)))
    lacking = (rows.stop * factor - bottom, -width % factor)
    return np.asarray(cv2.copyMakeBorder(rgb, 0, lacking[0], 0, lacking[1], cv2.BORDER_REPLICATE), np.uint8)


def _rgb(layers: Layers) -> Bytes:
    """In 8 bits; what is transparent is grey, for its colour is unknown."""
    colours = levels(layers.colours, layers.top, "full")
    if colours.ndim == 2:
        colours = np.asarray(cv2.cvtColor(colours, cv2.COLOR_GRAY2RGB), np.uint8)
    if layers.alpha is None:
        return colours
    share = levels(layers.alpha, layers.top, "full")[..., None] / np.float32(255)
    return np.asarray(colours * share + 128 * (1 - share), np.uint8)


def _shrunk(pixels: Pixels, factor: int) -> Bytes:
    """(h, w, 3), RGB: the mean of each square."""
    scale = 1 / factor
    return np.concatenate(
        [
            cv2.resize(_read(pixels, rows, factor), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            for rows in _bands(pixels.size, factor)
        ]
    )


def _enlarged(pixels: Pixels, small: Bytes, subject: Bytes, factor: int) -> Bytes:
    """(H, W) of 0 and 255: the subject, (h, w) of 0 and 1, at the photo's size, its edge along the photo's own."""
    width, height = pixels.size
    if factor == 1:
        return subject * np.uint8(255)
    slope, offset = _guidance(_grey(small), subject.astype(np.float32))
    mask = np.empty((height, width), np.uint8)
    for rows in _bands(pixels.size, factor):
        grey = _grey(_read(pixels, rows, factor))
        filtered = _upsampled(slope, rows, factor) * grey + _upsampled(offset, rows, factor)
        top, bottom = rows.start * factor, min(height, rows.stop * factor)
        mask[top:bottom] = np.where(filtered >= 0.5, np.uint8(255), np.uint8(0))[: bottom - top, :width]
    return mask


def _grey(rgb: Bytes) -> Floats:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(255)


def _guidance(grey: Floats, subject: Floats) -> tuple[Floats, Floats]:
    """Per pixel a and b of ``a * grey + b``, which follows the subject as a linear function of grey nearby.

    He, Sun and Tang, "Guided Image Filtering", 2010, equations 5, 6 and 8.
    """
    side = 2 * RADIUS_PX + 1

    def mean(values: Floats) -> Floats:
        return np.asarray(cv2.blur(values, (side, side)), np.float32)

    slope = (mean(grey * subject) - mean(grey) * mean(subject)) / (mean(grey * grey) - mean(grey) ** 2 + EPSILON)
    return mean(slope), mean(mean(subject) - slope * mean(grey))


def _upsampled(values: Floats, rows: slice, factor: int) -> Floats:
    """These rows of a small picture at the size of the large one, bilinear."""
    top = max(0, rows.start - 1)
    part = values[top : rows.stop + 1]
    large = cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    begin = (rows.start - top) * factor
    return np.asarray(large[begin : begin + (rows.stop - rows.start) * factor], np.float32)
