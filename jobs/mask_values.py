"""What a mask's grey values mean: one rule, for the check at submission, the network, the paste and the report.

Values are 0 to 255; 255 is repainted, 0 stays.

- Values within ``NOISE`` levels of either end are what lossy formats leave of black and white: they are read as such.
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
KNOWN = 64
HIDDEN = 128

_LEVELS = np.arange(256)
_SNAPPED = np.select([_LEVELS <= NOISE, _LEVELS >= 255 - NOISE], [0, 255], _LEVELS).astype(np.uint8)
_RAMP = ((_LEVELS - KNOWN) * 255 / (HIDDEN - KNOWN)).round().clip(0, 255).astype(np.uint8)


def snap(mask: Mask) -> tuple[Mask, int]:
    """The mask without compression noise, and how many pixels that changed."""
    snapped: Mask = np.asarray(cv2.LUT(mask, _SNAPPED), np.uint8)
    changed = cv2.countNonZero(cv2.inRange(mask, 1, NOISE)) + cv2.countNonZero(cv2.inRange(mask, 255 - NOISE, 254))
    return (snapped if changed else mask), changed


def hidden(mask: Mask) -> Mask:
    """How far each pixel is hidden from the network and free to be repainted: 0 not at all, 255 wholly."""
    return np.asarray(cv2.LUT(mask, _RAMP), np.uint8)


def hides_everything(mask: Mask) -> bool:
    """Whether no pixel is left that the network would be shown as surroundings, not even in part."""
    return bool(mask.min() >= HIDDEN)


def coverage(mask: Mask) -> float:
    """Share of the picture that is repainted, 0 to 1; a grey pixel counts in part."""
    return round(cv2.mean(mask)[0] / 255, 6)
