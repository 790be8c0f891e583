"""The pixels a job is run on."""

import math
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs import mask_values
from jobs.regions import Region
from worker.pixels import regions
from worker.pixels.fill.texture import soft_fill, textured
from worker.pixels.masks import blended
from worker.pixels.pictures import Picture

DIGEST_BYTES = 16
CONTINUED_PX = 24
"""Of detail at the edge that goes on in a border: things farther in would come back as ghosts."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Canvas:
    """The pixels a job is run on: ``image`` (h, w, 3) and ``mask`` (h, w), uint8.

    ``mask`` is how far a pixel is hidden from the network and free to be repainted (``jobs.mask_values.hidden``): 0 is
    known, 255 unknown. ``start_filled``: whether denoising at a strength below 1 begins from the filled image instead
    of the image. ``continued``: whether the image's unknown part holds a smooth continuation of the known one already.
    ``painted``: whether an earlier pass has painted it, so that nothing has to be known.
    """

    image: Pixels
    mask: Pixels
    start_filled: bool = False
    continued: bool = False
    painted: bool = False

    @cached_property
    def filled(self) -> Pixels:
        """The image with its hole filled from its surroundings; in part where the mask is soft."""
        if self.continued or self.painted:
            reach_px = CONTINUED_PX if self.continued else math.inf  # a painting has what goes on of things already
            return textured(self.image.copy(), self.image, self.mask > 0, reach_px)
        return blended(self.image, soft_fill(self.image, self.mask), self.mask)

    @cached_property
    def digests(self) -> tuple[bytes, bytes]:
        """Cache keys: hashes of the image and of the hole."""
        return digest(self.image), digest(self.mask) + bytes([self.continued, self.painted])

    @property
    def start(self) -> Pixels:
        return self.filled if self.start_filled else self.image


def shown(picture: Picture, mask: Pixels, region: Region) -> tuple[Pixels, Pixels]:
    """A canvas's image and mask. What is transparent is unknown: filled over, or all hidden.

    Args:
        mask: the effective one, (H, W), uint8.
    """
    rgb, alpha = picture.rgb, picture.alpha
    hidden = mask_values.hidden(regions.cut_mask(mask, region))
    weight = None
    if region.scale < 1:  # where several pixels become one, the known ones count
        weight = 255 - mask if alpha is None else np.minimum(255 - mask, alpha)
    image = regions.cut(rgb, region, weight)
    if alpha is None:
        return image, hidden
    opacity = regions.cut(alpha, region)
    unknown = mask_values.hidden(255 - opacity)
    missing = np.maximum(unknown, hidden)
    if missing.min() == 255:  # of what is faint the least faint is known
        part = np.minimum(opacity, 255 - hidden)
        missing = unknown = np.where((part == part.max()) & (part > 0), np.uint8(0), np.uint8(255))
        missing = np.maximum(missing, hidden)
    if missing.min() == 255:
        return image, missing
    return blended(image, soft_fill(image, missing), unknown), hidden


def shown_tile(picture: Picture, mask: Pixels, share: Pixels, layer: Pixels, tile: Region) -> tuple[Pixels, Pixels]:
    """A tile's image and mask: what has been painted so far lies in the hole, and where the picture is transparent.

    Args:
        mask: the effective one, (H, W).
        share: how far the tile decides, (h, w) of its box, as a mask's values.
        layer: what has been painted there, (h, w, 3).
    """
    left, top, right, bottom = tile.box
    here = slice(top, bottom), slice(left, right)
    hidden = mask_values.hidden(mask[here])
    unknown = hidden if picture.alpha is None else np.maximum(hidden, mask_values.hidden(255 - picture.alpha[here]))
    image = blended(picture.rgb[here], layer, unknown)
    return regions.padded(image, tile), regions.padded(np.minimum(hidden, mask_values.hidden(share)), tile)


def digest(pixels: NDArray[Any]) -> bytes:
    """Hash an array's shape, type and content."""
    hashed = blake2b(f"{pixels.shape} {pixels.dtype}".encode(), digest_size=DIGEST_BYTES)
    hashed.update(np.ascontiguousarray(pixels).data)
    return hashed.digest()
