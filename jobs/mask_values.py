"""What a mask's grey values mean: one rule, for the check at submission, the network, the paste and the report.

Values are 0 to 255; 255 is repainted, 0 stays.

- Values within ``NOISE`` levels of either end are read as black and white. In a lossy file, whose edges ring further,
  the ends are ``LOSSY_NOISE`` levels wide and the values between them stretched, so that a ramp has no step.
- The paste is linear: a pixel of value g is ``g / 255`` painted picture over the original.
- The network has to be shown something definite, so its ramp is steeper: up to ``KNOWN`` a pixel is surroundings, from
  ``HIDDEN`` on it is hole, between them in proportion. No pixel of full value is held to the original, none of value 0
  is hidden, and nothing jumps.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]

NOISE = 8
LOSSY_NOISE = 32
KNOWN = 64
HIDDEN = 128

PNG_OPTIONS = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE),
]
"""For masks: 2 ms a megapixel; OpenCV's own choice of filters takes 9 ms for a file of the same size."""

_LEVELS = np.arange(256)
_SNAPPED = np.select([_LEVELS <= NOISE, _LEVELS >= 255 - NOISE], [0, 255], _LEVELS).astype(np.uint8)
_STRETCHED = ((_LEVELS - LOSSY_NOISE) * 255 / (255 - 2 * LOSSY_NOISE)).round().clip(0, 255).astype(np.uint8)
_RAMP = ((_LEVELS - KNOWN) * 255 / (HIDDEN - KNOWN)).round().clip(0, 255).astype(np.uint8)


def snap(mask: Mask, lossy: bool = False) -> tuple[Mask, int]:
    """The mask without compression noise, and how many pixels are read as black or white that are not quite.

    ``lossy``: whether the file's format leaves more noise, as JPEG does.
    """
    noise = LOSSY_NOISE if lossy else NOISE
    snapped: Mask = np.asarray(cv2.LUT(mask, _STRETCHED if lossy else _SNAPPED), np.uint8)
    changed = cv2.countNonZero(cv2.inRange(mask, 1, noise)) + cv2.countNonZero(cv2.inRange(mask, 255 - noise, 254))
    if lossy:
        return snapped, changed
    return (snapped if changed else mask), changed


def hardened(mask: Mask, threshold: float) -> Mask:
    """255 for every value of at least ``threshold`` (above 0, up to 1) times 255, and 0 for all others."""
    table = np.where(threshold <= _LEVELS / 255, 255, 0).astype(np.uint8)
    return np.asarray(cv2.LUT(mask, table), np.uint8)


def hidden(mask: Mask) -> Mask:
    """How far each pixel is hidden from the network and free to be repainted: 0 not at all, 255 wholly."""
    return np.asarray(cv2.LUT(mask, _RAMP), np.uint8)


def hides_everything(mask: Mask) -> bool:
    """Whether no pixel is left that the network would be shown as surroundings, not even in part."""
    return bool(mask.min() >= HIDDEN)


def coverage(mask: Mask) -> float:
    """Share of the picture that is repainted, 0 to 1; a grey pixel counts in part."""
    return round(cv2.mean(mask)[0] / 255, 6)


def encoded(mask: Mask) -> bytes:
    """As the PNG that a worker takes and a caller can fetch."""
    _, png = cv2.imencode(".png", mask, PNG_OPTIONS)
    return png.tobytes()
