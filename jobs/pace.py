"""How fast a worker runs a model: measured at a size or two, carried over to the others by the law they suggest."""

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

STEEPEST = 2.0
"""No cost grows faster than with the square of the area: that is attention's."""


class Published(BaseModel):
    """What one version writes and another may read: frozen; fields that a reader does not know are left aside."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Cost(Published):
    """A job's cost in seconds: ``share_s`` of the device's time in full batches, and ``alone_s`` with nobody beside it.

    Alone it lasts longer than its share where a pass of few rows takes as long as one of many.
    """

    share_s: float = Field(ge=0)
    alone_s: float = Field(ge=0)

    def times(self, factor: float) -> "Cost":
        return Cost(share_s=self.share_s * factor, alone_s=self.alone_s * factor)


class Pace(Published):
    """A model's pace on a canvas of one size, in seconds."""

    area_px: int = Field(gt=0, description="Width times height of the canvas.")
    pass_s: float = Field(gt=0, description="A forward pass of one row.")
    row_s: float = Field(gt=0, description="A row, in a pass of as many rows as are worth it.")
    around_s: float = Field(ge=0, description="Encoding and decoding one image.")
    knee: float | None = Field(None, gt=0, description="Rows beyond which a pass gains little; None: not found.")

    def batch_s(self, rows: int) -> float:
        """A forward pass of so many rows."""
        return max(self.pass_s, rows * self.row_s)


class WorkerPace(Published):
    """What a living worker says at every heartbeat of how fast it is, and of what it still has to do.

    And of its clock: it has no place in the presence, which readers of an earlier version would then refuse.
    """

    seats: int = Field(ge=1)
    slowness: float = Field(1.0, gt=0, description="Time its work has taken lately, over the time that was predicted.")
    models: dict[str, list[Pace]] = Field(description="The paces of each model that it has measured.")
    left: list[Cost] = Field(description="What is left of each job in its seats, before slowness.")
    clock_ahead_s: float | None = Field(None, description="Its machine's clock, compared with Redis'.")
    loading: list[str] = Field([], description="Models that jobs in its seats wait for: it loads them now.")

    @classmethod
    def read(cls, raw: bytes | None) -> "WorkerPace | None":
        """None for a worker that is gone, or of a version that says it otherwise."""
        try:
            return cls.model_validate_json(raw) if raw else None
        except ValidationError:
            return None

    def __contains__(self, model: str) -> bool:
        return bool(self.models.get(model))


def pace_at(measured: Sequence[Pace], area_px: int) -> Pace:
    """The pace on a canvas of ``area_px``, from one or two that were measured, the smaller first.

    A power of the area through both points. With one point a cost grows as the area, and the knee falls as it.
    """
    small, large = measured[0], measured[-1]
    growth = area_px / small.area_px

    def carried(name: str, alone: float, least: float, most: float) -> float:
        first, second = getattr(small, name), getattr(large, name)
        power = alone
        if large.area_px > small.area_px and first > 0 and second > 0:
            power = math.log(second / first) / math.log(large.area_px / small.area_px)
        return float(first * growth ** min(max(power, least), most))

    return Pace(
        area_px=area_px,
        pass_s=carried("pass_s", 1.0, 0.0, STEEPEST),
        row_s=carried("row_s", 1.0, 0.0, STEEPEST),
        around_s=carried("around_s", 1.0, 0.0, STEEPEST),
        knee=None if small.knee is None or large.knee is None else carried("knee", -1.0, -STEEPEST, 0.0),
    )
