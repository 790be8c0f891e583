"""A batch as the API shows it."""

from datetime import UTC, datetime

from pydantic import Field

from app.backend import Backend
from jobs.batches import Batch, State
from jobs.schema import Record


class Counts(Record):
    """Lines, by what has become of them."""

    total: int
    waiting: int = Field(description="No job yet.")
    at_work: int = Field(description="Jobs that wait or run, or whose end has not been noted yet.")
    succeeded: int
    failed: int
    canceled: int
    expired: int = Field(description="No job was made of them in the time that a batch may take.")


class BatchView(Record):
    id: str
    url: str = Field(description="Its address, without the host.")
    results_url: str
    status: State
    counts: Counts
    created_at: datetime
    expires_at: datetime
    canceling_at: datetime | None
    ended_at: datetime | None


def view_of(backend: Backend, batch: Batch) -> BatchView:
    ended = backend.batches.counts(batch.id)
    total, done = batch.record.total, sum(ended.values())
    at_work = max(0, batch.fed - done)
    url = f"{backend.settings.root_path}/v1/batches/{batch.id}"
    return BatchView(
        id=batch.id,
        url=url,
        results_url=f"{url}/results",
        status=batch.state,
        counts=Counts(total=total, waiting=total - done - at_work, at_work=at_work, **ended),
        created_at=_time(batch.record.created_at),
        expires_at=_time(batch.record.expires_at),
        canceling_at=_time(batch.canceling_at) if batch.canceling_at else None,
        ended_at=_time(batch.ended_at) if batch.ended_at else None,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
