"""The values that a mask file holds, band by band, and what is wrong with them; by ``mask_mode`` and ``mask_scale``."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.bands import pixels_of
from jobs.errors import DoubtfulMask, InvalidMask
from jobs.samples import Layers
from jobs.schema import MaskMode, MaskScale

Mask = NDArray[np.uint8]


class HasTransparency(InvalidMask):
    """A mask to be read by its grey values has transparent pixels."""


GREY_TOLERANCE = 2
"""Levels by which the channels of a grey JPEG may differ through its chroma coding."""

STRONG = 128
"""A mask whose strongest value is below this leaves open what full strength is: half of it, or another scale."""


def read_values(
    image: Image.Image, data: bytes, mode: MaskMode, scale: MaskScale, threshold: float | None = None
) -> Mask:
    """What ``mode`` reads, (H, W), as the file has it, not turned: grey, 0 is black, or alpha, 0 is transparent.

    ``image``: as Pillow has opened it from ``data``. Raises InvalidMask, DoubtfulMask, and whatever a decoder does.
    """
    reading = Reading(mode, scale, threshold)
    mask = pixels_of(image, data).reduced(reading.levels_of)
    reading.check()
    return mask


@dataclass
class Reading:
    """``top``: the largest value that the file's format can hold; ``largest``: the largest found."""

    mode: MaskMode
    scale: MaskScale
    threshold: float | None = None
    coloured: bool = False
    largest: float = 0
    top: int = 255

    def levels_of(self, layers: Layers) -> Mask:
        """A band as 0 to 255. Raises InvalidMask for what no other band can make good."""
        values = self._alpha(layers) if self.mode.startswith("alpha") else self._grey(layers)
        self.top, self.largest = layers.top, max(self.largest, values.max())
        return levels(values, layers.top, self.scale)

    def check(self) -> None:
        """Raise InvalidMask or DoubtfulMask for what the bands held.

        Values that end far from the top of their range: 0 and 1, 0 to 255 in 16 bits, a washed-out grey.
        """
        if self.coloured:
            raise InvalidMask(
                "mask: it has colours, and only grey values say how much is repainted. "
                "Send black, white and grey; or paint with transparency and say mask_mode=alpha."
            )
        if self.scale == "full" and not self.threshold and 0 < self.largest < self.top * STRONG / 255:
            kind = "alpha" if self.mode.startswith("alpha") else "grey"
            raise DoubtfulMask(
                f"mask: its largest {kind} value is {self.largest:g} of {self.top:g}, so what full strength is stays "
                "open. Send mask_scale=binary if every value above 0 means full strength, mask_threshold if those "
                f"from it on do, or multiply the values so that {self.top:g} does."
            )

    def _alpha(self, layers: Layers) -> NDArray[Any]:
        if layers.alpha is None:
            raise InvalidMask(
                "mask: mask_mode alpha needs an alpha channel, and this file has none. "
                "Send a PNG with transparency, or say mask_mode=white or black."
            )
        return layers.alpha

    def _grey(self, layers: Layers) -> NDArray[Any]:
        if layers.alpha is not None and layers.alpha.min() < layers.top:
            raise HasTransparency(
                "mask: parts of it are transparent, so white and black alone do not say what is meant. "
                "Say mask_mode=alpha to repaint what is transparent, or send a mask without transparency."
            )
        if layers.colours.dtype == np.float32 and not _are_shares(layers.colours):
            raise InvalidMask("mask: its floating-point values leave 0 to 1. Send 8 or 16 bit grey.")
        if layers.colours.ndim == 2:
            return layers.colours
        self.coloured = self.coloured or _differ(layers.colours, GREY_TOLERANCE * layers.top // 255)
        return layers.colours[..., 1]


def levels(values: NDArray[Any], top: int, scale: MaskScale) -> Mask:
    """Values of 0 to ``top`` as 0 to 255, rounded; by ``binary`` everything above 0 is 255."""
    if scale == "binary":
        return np.where(values > 0, np.uint8(255), np.uint8(0))
    if top == 255:
        return np.asarray(values, np.uint8)
    if top == 1:
        return np.rint(values * np.float32(255)).astype(np.uint8)
    return ((values.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)


def _differ(rgb: NDArray[Any], tolerance: int) -> bool:
    """Whether the channels of (H, W, 3) differ anywhere by more."""
    red, green, blue = (rgb[..., channel] for channel in range(3))
    lowest = np.minimum(np.minimum(red, green), blue)
    highest = np.maximum(np.maximum(red, green), blue)
    return int((highest - lowest).max()) > tolerance


def _are_shares(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1)
