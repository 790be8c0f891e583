"""The fields that say what is repainted without a mask file, or how a mask file's grey is read.

Coordinates are those of the upright picture's edges: 0 is its left or upper edge, its width or height the other one, so
that pixel k lies between k and k + 1. They may be fractions.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

MAX_BOXES = 100
MAX_POINTS = 2_000
"""Of all polygons of a request."""
MAX_SUBJECT_POINTS = 100
LARGEST = 100_000_000.0
"""No picture is so long."""

Coordinate = Annotated[float, Field(strict=True, ge=0, le=LARGEST, allow_inf_nan=False)]
Box = tuple[Coordinate, Coordinate, Coordinate, Coordinate]
Point = tuple[Coordinate, Coordinate]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3)]
Side = Annotated[int, Field(strict=True, ge=0, le=1)]
"""1: on the subject; 0: beside it."""
SubjectPoint = tuple[Coordinate, Coordinate, Side]

_NUMBER = {"type": "number", "minimum": 0, "maximum": LARGEST}


def _list_of(item: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": least, "maxItems": most}


def _one_or(shape: dict[str, Any], most: int) -> dict[str, Any]:
    return {"anyOf": [shape, _list_of(shape, 0, most)]}


def _boxes(value: Any) -> Any:
    """A box by itself as a list of one."""
    found = _tuples(value, 2)
    return (found,) if isinstance(found, tuple) and found and not isinstance(found[0], tuple) else found


def _polygons(value: Any) -> Any:
    """A polygon by itself as a list of one."""
    found = _tuples(value, 3)
    first = found[0] if isinstance(found, tuple) and found else None
    return (found,) if first and isinstance(first, tuple) and not isinstance(first[0], tuple) else found


def _tuples(value: Any, depth: int) -> Any:
    """Lists, and those in them, as the tuples that pydantic's strict mode wants."""
    return tuple(_tuples(item, depth - 1) for item in value) if depth and isinstance(value, list) else value


def _have_area(boxes: tuple[Box, ...]) -> tuple[Box, ...]:
    for number, (left, top, right, bottom) in enumerate(boxes, 1):
        if right <= left or bottom <= top:
            raise PydanticCustomError(
                "box_without_area",
                "Box {number} has its right or lower side at or before the other one",
                {"number": number},
            )
    return boxes


def _few_points(polygons: tuple[tuple[Point, ...], ...]) -> tuple[tuple[Point, ...], ...]:
    if (count := sum(map(len, polygons))) > MAX_POINTS:
        raise PydanticCustomError(
            "too_many_points",
            "All polygons have {count} points; at most {most} may be sent",
            {"count": count, "most": MAX_POINTS},
        )
    return polygons


MaskBoxes = Annotated[
    tuple[Box, ...],
    Field(max_length=MAX_BOXES),
    AfterValidator(_have_area),
    BeforeValidator(_boxes),
    WithJsonSchema(_one_or(_list_of(_NUMBER, 4, 4), MAX_BOXES)),
]
MaskPolygons = Annotated[
    tuple[Polygon, ...],
    Field(max_length=MAX_POINTS // 3),
    AfterValidator(_few_points),
    BeforeValidator(_polygons),
    WithJsonSchema(_one_or(_list_of(_list_of(_NUMBER, 2, 2), 3, MAX_POINTS), MAX_POINTS // 3)),
]
MaskPoints = Annotated[
    tuple[SubjectPoint, ...],
    Field(max_length=MAX_SUBJECT_POINTS),
    BeforeValidator(lambda value: _tuples(value, 2)),
    WithJsonSchema(_list_of(_list_of(_NUMBER, 3, 3), 0, MAX_SUBJECT_POINTS)),
]
MaskSubject = Literal["foreground", "background"]
MaskPrompt = Annotated[str, Field(max_length=200)]
MaskThreshold = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
