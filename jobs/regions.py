"""The part of the picture that is run: chosen around the mask, with sides from a short list, so that crops of different
photos have one shape and share a batch.

Here, because both sides ask: the worker cuts it out, the API foresees what it will cost. Boxes are
``(left, top, right, bottom)`` in pixels. A region may reach over the picture's edge (small pictures).
"""

from dataclasses import dataclass

Box = tuple[int, int, int, int]

GRID_PX = 64
"""Sides are multiples of this: a VAE shrinks 8x, and a U-Net up to 8x more."""


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
