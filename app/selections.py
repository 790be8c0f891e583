"""What a request says about a subject to be found: points, a box around it, and which side of its edge is repainted.

Of whatever finds the subject (``app/grabcut.py``; later a model) this is all that it is asked.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from jobs.errors import DecodersBusy, InvalidField
from jobs.mask_fields import Box, MaskSubject, SubjectPoint
from jobs.schema import InpaintRequest, MaskSource

AT_ONCE = 8
"""Of all callers, those that wait included."""
OF_ONE_CALLER = 4
RETRY_AFTER_S = 2


@dataclass(frozen=True)
class Selection:
    """Coordinates are pixels of the upright picture, from its edges; a point's third number is 1 on the subject."""

    subject: MaskSubject = "foreground"
    points: Sequence[SubjectPoint] = ()
    box: Box | None = None

    @property
    def sources(self) -> tuple[MaskSource, ...]:
        return ("points",) if self.points else ("subject",)

    def on_subject(self) -> list[SubjectPoint]:
        return [point for point in self.points if point[2]]

    def check_inside(self, width: int, height: int) -> None:
        """Raise InvalidField for what leaves the picture."""
        for number, (x, y, _) in enumerate(self.points, 1):
            if x >= width or y >= height:
                raise InvalidField(
                    f"mask_points: point {number} is at {x:g}, {y:g}, outside the picture of {width} x {height} pixels."
                )
        if self.box and (self.box[2] > width or self.box[3] > height):
            raise InvalidField(
                f"mask_box: it reaches to {self.box[2]:g}, {self.box[3]:g}, outside the picture of {width} x {height} "
                "pixels."
            )

    def shrunk(self, factor: int) -> "Selection":
        """In a picture of which ``factor`` pixels are one, along each side."""
        box = tuple(side / factor for side in self.box) if self.box else None
        points = tuple((x / factor, y / factor, side) for x, y, side in self.points)
        return Selection(self.subject, points, box)  # type: ignore[arg-type]  # of four


class Fields(Protocol):
    """The fields of a request that make a selection."""

    @property
    def mask_points(self) -> Sequence[SubjectPoint]: ...
    @property
    def mask_box(self) -> Sequence[Box]: ...
    @property
    def mask_subject(self) -> MaskSubject | None: ...


def selection_of(fields: Fields) -> Selection:
    """Raises InvalidField for fields that contradict one another."""
    boxes, points = fields.mask_box, fields.mask_points
    if len(boxes) > 1:
        raise InvalidField(
            f"mask_box: {len(boxes)} boxes were sent; with mask_points or mask_subject it is the one box that the "
            "subject lies in."
        )
    selection = Selection(fields.mask_subject or "foreground", points, boxes[0] if boxes else None)
    if points and not (boxes or selection.on_subject()):
        raise InvalidField(
            "mask_points: none is on the subject. Send one as [x, y, 1], or mask_box around the subject."
        )
    for number, (x, y, _) in enumerate(points, 1):
        if (x, y, 1) in points and (x, y, 0) in points:
            raise InvalidField(f"mask_points: point {number} is sent as on the subject and as beside it.")
        if boxes and (x, y, 1) in points and not (boxes[0][0] <= x < boxes[0][2] and boxes[0][1] <= y < boxes[0][3]):
            raise InvalidField(
                f"mask_points: point {number} is on the subject and outside mask_box, which is around it."
            )
    return selection


def asks_for_subject(request: InpaintRequest) -> bool:
    """Whether the mask of this request is to be found here; else boxes are filled, or words are found by a worker."""
    return bool(request.mask_points or request.mask_subject) and request.mask_prompt is None


def plain(request: InpaintRequest) -> InpaintRequest:
    """The request without ``task=replace_background``: a fill of what is behind the subject. Raises InvalidField."""
    if request.task != "replace_background":
        return request
    if not request.prompt.strip():
        raise InvalidField("prompt: task=replace_background needs one that says what is to be behind the subject.")
    if request.mask_subject == "foreground":
        raise InvalidField("mask_subject: task=replace_background repaints the background. Leave mask_subject out.")
    changed: dict[str, Any] = {"task": "fill", "mask_subject": "background"}
    return request.model_copy(update=changed)


class SelectionPlaces:
    """Finding a subject takes seconds of a decoder: few at once, fewer of one caller, and a decoder left for others.

    Args:
        decoders: how many there are.
        wait_s: the longest wait for a place.
    """

    def __init__(self, decoders: int, wait_s: float) -> None:
        self._free = anyio.CapacityLimiter(max(1, decoders - 1))
        self._wait_s = wait_s
        self._callers: list[str] = []

    @asynccontextmanager
    async def place(self, caller: str) -> AsyncIterator[None]:
        """Wait for a place and keep it; a decoder's ``turn`` comes after. Raises DecodersBusy."""
        if len(self._callers) >= AT_ONCE or self._callers.count(caller) >= OF_ONE_CALLER:
            raise DecodersBusy("Too many subjects are being looked for. Send it again.", RETRY_AFTER_S)
        self._callers.append(caller)
        try:
            try:
                with anyio.fail_after(self._wait_s):
                    await self._free.acquire()
            except TimeoutError:
                raise DecodersBusy(f"No place to find a subject was free within {self._wait_s:g} s.") from None
            try:
                yield
            finally:
                self._free.release()
        finally:
            self._callers.remove(caller)
