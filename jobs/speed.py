"""How fast a worker runs a model: measured at one or two sizes, extrapolated to others by a power law."""

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

STEEPEST = 2.0
"""No cost grows faster than the square of the area, which is that of attention."""


class Published(BaseModel):
    """What one version writes and another may read: frozen; a reader ignores fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Cost(Published):
    """A job's cost in seconds: ``batched_s`` of the device's time in full batches, ``alone_s`` by itself.

    Alone it lasts longer than its share where a pass of few rows takes as long as one of many.
    """

    batched_s: float = Field(ge=0)
    alone_s: float = Field(ge=0)

    def times(self, factor: float) -> "Cost":
        return Cost(batched_s=self.batched_s * factor, alone_s=self.alone_s * factor)


class Speed(Published):
    """A model's speed on a canvas of one size, in seconds."""

    area_px: int = Field(gt=0, description="Width times height of the canvas.")
    pass_s: float = Field(gt=0, description="A forward pass of one row.")
    row_s: float = Field(gt=0, description="A row, in a pass of the best number of rows.")
    codec_s: float = Field(ge=0, description="Encoding and decoding one image.")
    best_rows: float | None = Field(None, gt=0, description="Rows beyond which a pass gains little; None: not found.")

    def batch_s(self, rows: int) -> float:
        """A forward pass of so many rows."""
        return max(self.pass_s, rows * self.row_s)


class WorkerSpeed(Published):
    """A living worker's speed and the work left in its seats, published at every heartbeat.

    Its clock is here too: readers of an earlier version would refuse a presence with new fields.
    """

    seats: int = Field(ge=1)
    slowdown: float = Field(1.0, gt=0, description="Time its work has taken lately, over the time that was predicted.")
    models: dict[str, list[Speed]] = Field(description="The speeds of each model that it has measured.")
    left: list[Cost] = Field(description="What is left of each job in its seats, before slowdown.")
    clock_ahead_s: float | None = Field(None, description="Its machine's clock, compared with Redis'.")
    loading: list[str] = Field([], description="Models that jobs in its seats wait for: it loads them now.")

    @classmethod
    def read(cls, raw: bytes | None) -> "WorkerSpeed | None":
        """None for a worker that is gone, or of a version with another format."""
        try:
            return cls.model_validate_json(raw) if raw else None
        except ValidationError:
            return None

    def __contains__(self, model: str) -> bool:
        return bool(self.models.get(model))


def speed_at(measured: Sequence[Speed], area_px: int) -> Speed:
    """The speed on a canvas of ``area_px``, from one or two that were measured, the smaller first.

    A power of the area through both points. With one point a cost grows as the area, and the best_rows falls as it.
    """
    small, large = measured[0], measured[-1]
    growth = area_px / small.area_px

    def carried(name: str, alone: float, least: float, most: float) -> float:
        first, second = getattr(small, name), getattr(large, name)
        power = alone
        if large.area_px > small.area_px and first > 0 and second > 0:
            power = math.log(second / first) / math.log(large.area_px / small.area_px)
        return float(first * growth ** min(max(power, least), most))

    return Speed(
        area_px=area_px,
        pass_s=carried("pass_s", 1.0, 0.0, STEEPEST),
        row_s=carried("row_s", 1.0, 0.0, STEEPEST),
        codec_s=carried("codec_s", 1.0, 0.0, STEEPEST),
        best_rows=carried("best_rows", -1.0, -STEEPEST, 0.0) if small.best_rows and large.best_rows else None,
    )
