"""Boxes and polygons, drawn into a mask band by band.

A pixel belongs to a shape if its centre does. On an edge the left and the upper one count, the right and the lower one
do not: shapes that share an edge share no pixel and leave none out. A polygon is closed, and filled wherever it winds
around (the nonzero rule of SVG), so that one that crosses itself has no holes there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.bands import BAND_PX
from jobs.errors import InvalidField
from jobs.mask_fields import Box, Point
from jobs.schema import MaskSource

MAX_CROSSINGS = 2**25
"""Of edges with rows of pixels: two seconds of processor time."""
BAND_CROSSINGS = 2**18

Mask = NDArray[np.uint8]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Shapes:
    """In pixels of the upright picture, from its edges."""

    boxes: Sequence[Box] = ()
    polygons: Sequence[Sequence[Point]] = ()

    def __bool__(self) -> bool:
        return bool(self.boxes or self.polygons)

    @property
    def kinds(self) -> tuple[MaskSource, ...]:
        """Those that there are."""
        kinds: dict[MaskSource, bool] = {"box": bool(self.boxes), "polygon": bool(self.polygons)}
        return tuple(kind for kind, is_there in kinds.items() if is_there)

    def draw(self, mask: Mask) -> None:
        """Make every pixel of (H, W) white that a shape covers.

        Raises InvalidField for a shape that leaves the picture, or covers no pixel of it.
        """
        names, outlines = [*self._names()], [*self._outlines()]
        height, width = mask.shape
        for name, outline in zip(names, outlines, strict=True):
            _check_inside(name, outline, width, height)
        edges = _edges(outlines)
        if (crossings := int((edges.end - edges.start).sum())) > MAX_CROSSINGS:
            raise InvalidField(
                f"mask_polygon: its edges cross the picture's rows {crossings} times; at most {MAX_CROSSINGS} are "
                "allowed. Send fewer points."
            )
        covering = _draw(edges, mask)
        if missing := sorted(set(range(len(names))) - covering):
            raise InvalidField(f"{names[missing[0]]} covers no pixel's centre, so it would repaint nothing.")

    def _outlines(self) -> Iterator[Floats]:
        """(N, 2), x and y."""
        for left, top, right, bottom in self.boxes:
            yield np.array([(left, top), (left, bottom), (right, bottom), (right, top)], np.float64)
        for points in self.polygons:
            yield np.array(points, np.float64)

    def _names(self) -> Iterator[str]:
        yield from (f"mask_box: box {number}" for number in range(1, len(self.boxes) + 1))
        yield from (f"mask_polygon: polygon {number}" for number in range(1, len(self.polygons) + 1))


NO_SHAPES = Shapes()


def _check_inside(name: str, outline: Floats, width: int, height: int) -> None:
    x, y = (float(value) for value in outline.max(axis=0))
    if x > width or y > height:
        raise InvalidField(
            f"{name} reaches to {x:g}, {y:g} (x, y), and the upright image is {width} x {height} pixels. "
            f"Send x from 0 to {width} and y from 0 to {height}; nothing is cut off here."
        )


@dataclass(frozen=True)
class _Edges:
    """Arrays of an item each: the upper end, the slope in x a row, the shape's number, +1 downwards and -1 upwards, and
    the rows whose centres it crosses, ``start`` to ``end``."""

    x: Floats
    y: Floats
    slope: Floats
    shape: Ints
    direction: Ints
    start: Ints
    end: Ints


def _edges(outlines: Sequence[Floats]) -> _Edges:
    """Those that cross a row. The same edge is computed from the same end, whichever way it is walked."""
    begin = np.concatenate(outlines)
    stop = np.concatenate([np.roll(outline, -1, axis=0) for outline in outlines])
    shape = np.repeat(np.arange(len(outlines)), [len(outline) for outline in outlines])
    down = begin[:, 1] < stop[:, 1]
    upper, lower = np.where(down[:, None], begin, stop), np.where(down[:, None], stop, begin)
    start, end = first_pixel(upper[:, 1]), first_pixel(lower[:, 1])
    kept = start < end
    upper, lower = upper[kept], lower[kept]
    slope = (lower[:, 0] - upper[:, 0]) / (lower[:, 1] - upper[:, 1])
    return _Edges(upper[:, 0], upper[:, 1], slope, shape[kept], np.where(down, 1, -1)[kept], start[kept], end[kept])


def first_pixel(coordinate: Floats) -> Ints:
    """The first pixel whose centre lies at a coordinate or behind it."""
    return np.ceil(coordinate - 0.5).astype(np.int64)


def _draw(edges: _Edges, mask: Mask) -> set[int]:
    """The numbers of the shapes that cover a pixel."""
    covering = set[int]()
    if not edges.start.size:
        return covering
    step = max(1, min(BAND_PX // mask.shape[1], BAND_CROSSINGS // edges.start.size))
    for top in range(int(edges.start.min()), int(edges.end.max()), step):
        covering |= _draw_band(edges, mask[top : top + step], top)
    return covering


def _draw_band(edges: _Edges, band: Mask, top: int) -> set[int]:
    rows, width = band.shape
    start, end = np.maximum(edges.start, top), np.minimum(edges.end, top + rows)
    counts = np.maximum(end - start, 0)
    edge = np.repeat(np.arange(counts.size), counts)
    row = np.arange(edge.size) - np.repeat(np.cumsum(counts) - counts, counts) + start[edge]
    x = edges.x[edge] + (row + 0.5 - edges.y[edge]) * edges.slope[edge]
    column = np.clip(first_pixel(x), 0, width)
    order = np.argsort(((edges.shape[edge] * rows + row - top) * (width + 1)) + column, kind="stable")
    winding = np.cumsum(edges.direction[edge][order])  # back to 0 at the end of each row of each shape
    before = np.concatenate([[0], winding[:-1]])
    changes = (winding != 0).astype(np.int32) - (before != 0)
    cover = np.zeros((rows, width + 1), np.int32)
    np.add.at(cover, (row[order] - top, column[order]), changes)
    np.cumsum(cover, axis=1, out=cover)
    band[cover[:, :-1] > 0] = 255
    begins, ends = (order[changes == change] for change in (1, -1))
    return {int(number) for number in np.unique(edges.shape[edge[begins]][column[begins] < column[ends]])}
