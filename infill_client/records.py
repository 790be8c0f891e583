"""The service's JSON as records. Fields that a newer service adds are kept, and reached as attributes too."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["queued", "loading", "running", "succeeded", "failed", "canceled"]
ENDED = ("succeeded", "failed", "canceled")


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Progress(Record):
    """``eta_ms``: milliseconds to the job's end, as far as the service can tell."""

    step: int
    steps: int
    eta_ms: float | None = None


class Mask(Record):
    """How the mask was understood; ``changed_outside_mask`` is counted once the job has succeeded."""

    mode: str
    coverage: float
    bbox: tuple[int, int, int, int]
    soft: bool
    changed_outside_mask: int | None = None


class Extension(Record):
    """The borders that a photo gets, and the size that it comes to, in pixels."""

    left: int
    top: int
    right: int
    bottom: int
    width: int
    height: int


class Image(Record):
    url: str
    width: int
    height: int
    content_type: str
    bytes: int


class Reason(Record):
    """Why a job failed."""

    code: str
    message: str


class Job(Record):
    """A job as the service shows it: docs/api.md."""

    id: str
    url: str = ""
    status: Status
    model: str
    priority: str = "normal"
    attempt: int
    queue_position: int | None
    progress: Progress
    seeds: list[int]
    approximate: list[str]
    mask: Mask
    extend: Extension | None = None
    images: list[Image]
    timings: Mapping[str, float] | None
    error: Reason | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class JobSummary(Record):
    """A job in a list."""

    id: str
    status: Status
    model: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class Result:
    """A job that has succeeded, and its images as files: PNG, or as ``output_format`` asked."""

    job: Job
    images: tuple[bytes, ...]

    def save(self, path: str | Path, index: int = 0) -> Path:
        """Write an image; returns its path."""
        target = Path(path)
        target.write_bytes(self.images[index])
        return target


@dataclass(frozen=True)
class FoundMask:
    """A subject as a grey PNG, white = to be repainted; its score, 0 to 1; left, top, right, bottom of the white."""

    png: bytes
    score: float
    box: tuple[int, int, int, int]


def job_of(answer: Any) -> Job:
    return Job.model_validate(answer.json())
