"""The part of the picture that is run: chosen around the mask, with sides from a short list, so that crops of different
photos have one shape and share a batch.

Here, because both sides ask: the worker cuts it out, the API foresees what it will cost. Boxes are
``(left, top, right, bottom)`` in pixels.
"""

from dataclasses import dataclass

Box = tuple[int, int, int, int]

GRID_PX = 64
"""Canvas sides are multiples of this: a VAE shrinks 8x, and a U-Net up to 8x more."""

SURROUNDINGS_PX = 16
"""Canvas pixels of surroundings that are always taken in on each side of the mask, where the picture has them."""


@dataclass(frozen=True)
class Region:
    """A box of the picture, the canvas (width, height) it is run on, and the part of the canvas that it takes up.

    ``inner`` has the box's size, or a smaller one where the box is run shrunk. The rest of the canvas is padding: it
    costs a canvas at most, whatever the picture's proportions.
    """

    box: Box
    canvas: tuple[int, int]
    inner: Box

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the box, in pixels of the picture."""
        return _size(self.box)

    @property
    def run_px(self) -> tuple[int, int]:
        """Width and height of the box on the canvas."""
        return _size(self.inner)

    @property
    def scale(self) -> float:
        """Canvas pixels a picture pixel, along the longer side; 1 where nothing is shrunk."""
        return max(self.run_px) / max(self.size)


def plan_region(size: tuple[int, int], bbox: Box, padding_px: int, crop: bool, sides: tuple[int, int]) -> Region:
    """Choose the region for a mask.

    Args:
        size: the picture's width and height.
        bbox: the mask's bounding box.
        padding_px: surroundings wanted on each side of it; at least ``SURROUNDINGS_PX`` of the canvas are taken.
        crop: False takes in the whole picture.
        sides: the shortest and the longest canvas side of the model, multiples of 64.

    Returns:
        The region; its box holds all of ``bbox``. The canvas has native pixels unless the box is longer than the
        longest side; then it is shrunk.
    """
    longest = sides[1]
    if not crop:
        bbox, padding_px = (0, 0, *size), 0
    lengths = _size(bbox)
    if crop:
        shrunk = -(-max(lengths) * SURROUNDINGS_PX // (longest - 2 * SURROUNDINGS_PX))
        padding_px = max(padding_px, SURROUNDINGS_PX, shrunk)
    wanted = [min(length + 2 * padding_px, limit) for length, limit in zip(lengths, size, strict=True)]
    full = max(longest, *wanted)  # this many of the picture's pixels become ``longest`` of the canvas
    buckets = bucket_sides(*sides) if crop else range(GRID_PX, longest + 1, GRID_PX)
    canvas = [next(side for side in buckets if side >= _up(length * longest, full)) for length in wanted]
    axes = []
    for axis, side in enumerate(canvas):
        span = min(side * full // longest, size[axis])
        run = _up(span * longest, full)
        start = (bbox[axis] + bbox[axis + 2] - span) // 2
        start, inner = min(max(start, 0), size[axis] - span), (side - run) // 2
        axes.append((start, start + span, inner, inner + run))
    (left, right, x, x_end), (top, bottom, y, y_end) = axes
    return Region((left, top, right, bottom), (canvas[0], canvas[1]), (x, y, x_end, y_end))


def _size(box: Box) -> tuple[int, int]:
    return box[2] - box[0], box[3] - box[1]


def _up(dividend: int, divisor: int) -> int:
    """The quotient, rounded up: what is rounded down here is a row of the mask that is not run."""
    return -(-dividend // divisor)


def bucket_sides(shortest: int, longest: int) -> list[int]:
    """The sides a canvas may have: steps of a half up to the double, as in 256, 384, 512, 768, 1024."""
    sides, side = [], shortest
    while side < longest:
        sides += [side, -(-side * 3 // 2 // GRID_PX) * GRID_PX]
        side *= 2
    return [side for side in sides if side < longest] + [longest]
