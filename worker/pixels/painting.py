"""What a job's passes have painted of one hole: the first one shrunk, the tiles over it at native pixels.

Where tiles overlap, each counts by its distance to its own edges, so that one becomes the other without a seam, in
whatever order they were painted. Pixels are uint8; boxes are the picture's.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs.regions import Box, Region
from worker.pixels.masks import blended
from worker.pixels.regions import Pixels

Floats = NDArray[np.float32]

SHARPNESS = 3
"""Power of a tile's weight. At 1 the two pictures of an overlap are seen through each other almost all over it."""


class Painting:
    """Of the ``n`` images of a job.

    Args:
        region: where the first pass was run.
        canvases: what it painted, (n, h, w, 3).
    """

    def __init__(self, region: Region, canvases: Pixels) -> None:
        self.region, self.canvases = region, canvases
        self.tiles: list[tuple[Region, Pixels]] = []

    def add(self, tile: Region, canvases: Pixels) -> None:
        """Lay a tile, (n, h, w, 3), over what there is."""
        left, top, right, bottom = tile.inner
        self.tiles.append((tile, np.ascontiguousarray(canvases[:, top:bottom, left:right])))

    def share(self, box: Box) -> Pixels:
        """How far a next tile in ``box`` decides, (h, w): 255 where it is the first, less near the middle of others."""
        weight, others = _weight(box, box), np.zeros(_shape(box), np.float32)
        for tile, _ in self.tiles:
            others += _weight(tile.box, box)
        return np.asarray((255 * weight / (weight + others)).round(), np.uint8)

    def layer(self, index: int, box: Box) -> Pixels:
        """What has been painted in a box, of one image: (h, w, 3)."""
        painted, total = _enlarged(self.canvases[index], self.region, box), np.zeros(_shape(box), np.float32)
        for tile, pixels in self.tiles:
            if (both := _common(tile.box, box)) is None:
                continue
            here, there = _window(both, box), _window(both, tile.box)
            weight = _weight(tile.box, both)
            total[here] += weight
            share = (255 * weight / total[here]).round().astype(np.uint8)
            painted[here] = blended(painted[here], pixels[index][there], share)
        return painted


def _enlarged(canvas: Pixels, region: Region, box: Box) -> Pixels:
    """The part of a canvas, (h, w, 3), that ``box`` shows, at native pixels."""
    (across, down), (left, top) = region.run_px, region.inner[:2]
    scale_x, scale_y = across / region.size[0], down / region.size[1]
    shift_x = (box[0] - region.box[0] + 0.5) * scale_x - 0.5
    shift_y = (box[1] - region.box[1] + 0.5) * scale_y - 0.5
    matrix = np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y]])
    inside = np.ascontiguousarray(canvas[top : top + down, left : left + across])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    enlarged = cv2.warpAffine(inside, matrix, _shape(box)[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(enlarged, np.uint8)


def _weight(tile: Box, box: Box) -> Floats:
    """A tile's weight in ``box``, (h, w): 1 in its middle, next to 0 at its edges, 0 beyond."""
    across, down = (_slope(tile[axis], tile[axis + 2], box[axis], box[axis + 2]) for axis in (0, 1))
    return np.asarray(np.outer(down, across), np.float32)


def _slope(begin: int, end: int, first: int, last: int) -> Floats:
    at = np.arange(first, last, dtype=np.float32) + 0.5
    nearest = np.minimum(at - begin, end - at).clip(0)
    return np.asarray((2 * nearest / (end - begin)) ** SHARPNESS, np.float32)


def _common(one: Box, other: Box) -> Box | None:
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[2], other[2]), min(one[3], other[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _window(part: Box, of: Box) -> tuple[slice, slice]:
    """Rows and columns of ``part`` in a picture of the box ``of``."""
    return slice(part[1] - of[1], part[3] - of[1]), slice(part[0] - of[0], part[2] - of[0])


def _shape(box: Box) -> tuple[int, int]:
    return box[3] - box[1], box[2] - box[0]
