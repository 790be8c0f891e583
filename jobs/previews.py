"""Small pictures of a job as it forms, for callers who ask: the wish, when one is due, and the latest one in Redis."""

from typing import Any, cast

from pydantic import Field
from redis import Redis

from jobs import keys
from jobs.schema import Record

PREVIEWS = 11
"""Of one job at most, after each twelfth of its steps: one, two or three of them can so be spaced evenly."""

MAX_SIDE_PX = 128
"""The longest side of a preview."""

MAX_BYTES = 24 * 1024
"""Of a preview's record at most; reserved with the results (``jobs/room.py``). JPEG makes noise no larger than this."""

KEPT_S = 600
"""A preview's lifetime; the next one takes its place, and the job's end removes it."""


class Preview(Record):
    """What a job has come to after ``step`` of its ``steps``: its first image alone."""

    step: int
    steps: int
    box: tuple[int, int, int, int] = Field(description="The part of the picture that is shown.")
    size: tuple[int, int] = Field(description="Width and height of the whole picture.")
    image: str = Field(description="A JPEG as a data URL; it has the box's shape, not its size.")


def due(step: int, steps: int, count: int = PREVIEWS) -> int:
    """How many of ``count`` previews, evenly spaced, are due after ``step`` of ``steps``. The last step has none."""
    return 0 if step >= steps else (count + 1) * step // steps


class Previews:
    """The wishes and previews in Redis."""

    def __init__(self, connection: Redis, wish_ttl_s: int) -> None:
        self.connection = connection
        self.wish_ttl_s = wish_ttl_s

    def ask(self, job_id: str) -> None:
        """Have the job's worker make previews from its next step on, until the job ends."""
        self.connection.set(keys.preview_wish(job_id), 1, ex=self.wish_ttl_s)

    def write(self, pipeline: Any, job_id: str, record: str) -> None:
        """Queue a preview, as JSON, on ``pipeline``."""
        pipeline.set(keys.preview(job_id), record, ex=KEPT_S)

    def latest(self, job_id: str) -> str | None:
        """As written; None where there is none, or its job has ended."""
        raw = cast("bytes | None", self.connection.get(keys.preview(job_id)))
        return raw.decode() if raw else None
