"""What can go wrong for a caller."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infill_client.records import Job


class ClientError(Exception):
    """Base of all errors of this package."""


class NoAnswer(ClientError):
    """The service was not reached, or the connection broke, and trying again did not help."""


class TimedOut(ClientError):
    """The job has not ended in the time that the caller gives it. It goes on; ``job`` is as it was seen last."""

    def __init__(self, job: "Job", seconds: float) -> None:
        super().__init__(f"Job {job.id} is {job.status} after {seconds:g} s and goes on.")
        self.job = job


class Problem(ClientError):
    """The service refuses. ``str(problem)`` is its sentence; ``code`` one of docs/api.md (RFC 9457)."""

    def __init__(self, status: int, code: str, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.retry_after_s = status, code, detail, retry_after_s


class JobEnded(ClientError):
    """The job has ended without a picture: failed, with the reason, or canceled."""

    def __init__(self, job: "Job") -> None:
        reason = job.error.message if job.error else f"The job is {job.status}."
        super().__init__(f"Job {job.id} {job.status}: {reason}" if job.error else reason)
        self.job = job
