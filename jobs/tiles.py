"""The tiles of a hole that is larger than its model's longest side: where they lie, and in which order they are run.

A first pass is run shrunk (``jobs/regions.py``) and decides what the hole holds. Each tile is then painted over the
enlarged result, at native pixels, and sees what the tiles before it have painted (``worker/pixels/painting.py``); what
is asked of it is in ``jobs/passes.py``.

Here, because both sides ask: the worker runs the tiles, the API counts them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs.catalog import ModelEntry
from jobs.eta import grown_box
from jobs.regions import SURROUNDINGS_PX, Box, Region, bucket_sides
from jobs.schema import InpaintParameters

CELL_PX = 64
"""Side of the squares by which it is known where a mask has something."""

LOOK_PX = 16
"""Side of the squares by which tiles are put in order."""

OVERLAP_SHARE = 4
"""Tiles overlap by at least their side divided by this."""
MARGIN_SHARE = 16
"""They take in surroundings of the mask by at least the model's longest side divided by this."""

Cells = NDArray[np.uint8]
"""(rows, columns): 1 where any pixel of the square is above 0 in the mask."""


def cells_of(mask: NDArray[np.uint8]) -> Cells:
    """Where a mask, (H, W), has something."""
    height, width = mask.shape
    rows = np.maximum.reduceat(mask, np.arange(0, height, CELL_PX), axis=0)
    return (np.maximum.reduceat(rows, np.arange(0, width, CELL_PX), axis=1) > 0).astype(np.uint8)


def grown(cells: Cells, reach_px: int) -> Cells:
    """Where a mask that grows by up to ``reach_px`` can have something."""
    side = 2 * -(-reach_px // CELL_PX) + 1
    return np.asarray(cv2.dilate(cells, np.ones((side, side), np.uint8)), np.uint8) if side > 1 else cells


@dataclass(frozen=True)
class _Axis:
    """Where tiles begin in the picture, how many pixels each has, and the canvas side that these are run on."""

    starts: Sequence[int]
    span: int
    side: int


def tiles_of(
    parameters: InpaintParameters, entry: ModelEntry, size: tuple[int, int], bbox: Box, cells: Cells
) -> list[Region]:
    """The tiles that a request can be run in.

    Args:
        parameters: the request, resolved.
        entry: its model's entry in the catalog.
        size: the picture's width and height.
        bbox: the uploaded mask's bounding box; growing and feathering widen it.
        cells: where that mask has something.
    """
    reach = parameters.mask_grow + parameters.mask_feather
    return plan_tiles(size, grown_box(parameters, size, bbox), grown(cells, reach), entry.sides)


def plan_tiles(size: tuple[int, int], bbox: Box, cells: Cells, sides: tuple[int, int]) -> list[Region]:
    """The tiles that cover a mask at native pixels, row by row; places without any mask have none.

    Args:
        size: the picture's width and height.
        bbox: the mask's bounding box.
        cells: where in the picture the mask has something.
        sides: the shortest and the longest canvas side of the model.
    """
    across, down = (_axis(size[axis], bbox[axis], bbox[axis + 2], sides) for axis in (0, 1))
    canvas = across.side, down.side
    x, y = (across.side - across.span) // 2, (down.side - down.span) // 2
    inner = x, y, x + across.span, y + down.span
    boxes = [(left, top, left + across.span, top + down.span) for top in down.starts for left in across.starts]
    return [Region(box, canvas, inner) for box in boxes if _part(cells, box).any()]


def _axis(size: int, begin: int, end: int, sides: tuple[int, int]) -> _Axis:
    """Tiles of the longest side at even distances; a single one where a shorter side is enough."""
    margin_px = max(SURROUNDINGS_PX, sides[1] // MARGIN_SHARE)
    begin, end = max(0, begin - margin_px), min(size, end + margin_px)
    side = next((side for side in bucket_sides(*sides) if side >= end - begin), sides[1])
    span = min(side, size)
    overlap = side // OVERLAP_SHARE
    count = max(1, -(-(end - begin - overlap) // (side - overlap)))
    if count == 1:
        return _Axis([min(max((begin + end - span) // 2, 0), size - span)], span, side)
    return _Axis([begin + (end - begin - span) * index // (count - 1) for index in range(count)], span, side)


def from_the_known(tiles: Sequence[Region], mask: NDArray[np.uint8]) -> list[Region]:
    """The tiles in the order in which they are run: next comes the one with most that is known or has been painted.

    ``mask``: (H, W); it is looked at in squares of ``LOOK_PX``.
    """
    height, width = (-(-side // LOOK_PX) for side in mask.shape)
    unknown = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    scale = width / mask.shape[1], height / mask.shape[0]
    left, ordered = [(tile, _window(tile.box, scale)) for tile in tiles], list[Region]()
    while left:
        nearest = min(left, key=lambda each: float(unknown[each[1]].mean()))
        left.remove(nearest)
        ordered.append(nearest[0])
        unknown[nearest[1]] = 0
    return ordered


def _window(box: Box, scale: tuple[float, float]) -> tuple[slice, slice]:
    """Rows and columns of a picture that is smaller by ``scale``; at least one of each."""
    begin, end = ([int(box[axis + side] * scale[axis]) for axis in (1, 0)] for side in (0, 2))
    rows, columns = (slice(first, max(first + 1, last)) for first, last in zip(begin, end, strict=True))
    return rows, columns


def _part(cells: Cells, box: Box) -> Cells:
    left, top, right, bottom = box
    return cells[top // CELL_PX : -(-bottom // CELL_PX), left // CELL_PX : -(-right // CELL_PX)]
