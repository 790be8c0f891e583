"""What is to be expected of the queue: computed, when asked, from the jobs that wait and the paces of the workers.

Nothing is counted up or down, so nothing can drift: a job that ends, is canceled or comes back after a crash is in the
next computation or is not.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import cast

from pydantic import ValidationError
from redis import Redis

from jobs import keys
from jobs.forecast import Span, forecast
from jobs.pace import Cost, WorkerPace
from jobs.work import Work, expected

FRESH_S = 0.5
"""How old an answer may be: many callers may look at their waiting jobs at once."""


@dataclass(frozen=True)
class Prospect:
    """The queue at one moment."""

    job_ids: Sequence[str] = ()
    spans: Mapping[str, Span] = field(default_factory=dict)
    cost_s: float | None = None
    """Seconds of the devices' time that all waiting jobs cost together; None if one of them is unknown."""
    at: float = -FRESH_S
    """On the monotonic clock."""

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.at


class Outlook:
    """Answers from one computation for ``FRESH_S``, if it knows the job. Two round trips to Redis otherwise.

    Args:
        connection: of the API.
        queue_key: the list of RQ's queue.
    """

    def __init__(self, connection: Redis, queue_key: str) -> None:
        self.connection = connection
        self.queue_key = queue_key
        self._latest = Prospect()

    def eta_ms(self, job_id: str) -> float | None:
        """Predicted time until a waiting job ends. None if it does not wait, or if too little is known.

        Too little: no living worker has run its model, or that of a job ahead of it; or all of them load a model.
        """
        prospect = self._prospect(job_id)
        if job_id not in prospect.spans:
            return None
        return round(1000 * max(0.0, prospect.spans[job_id].end_s - prospect.age_s), 1)

    def room_s(self) -> float | None:
        """Predicted time until half of the waiting jobs have been taken up; None if too little is known.

        A caller who comes then finds room, and comes before the workers run out of work.
        """
        prospect = self._prospect()
        if not prospect.job_ids:
            return None
        middle = prospect.spans.get(prospect.job_ids[(len(prospect.job_ids) - 1) // 2])
        return None if middle is None else max(0.0, middle.start_s - prospect.age_s)

    def cost_s(self) -> float | None:
        """What all waiting jobs cost together; None if a model among them is unknown."""
        return self._prospect().cost_s

    def _prospect(self, job_id: str | None = None) -> Prospect:
        latest = self._latest
        if latest.age_s >= FRESH_S or (job_id is not None and job_id not in latest.job_ids):
            latest = self._latest = self._look()
        return latest

    def _look(self) -> Prospect:
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.lrange(self.queue_key, 0, -1)
            pipeline.smembers(keys.WORKERS)
            waiting, names = pipeline.execute()
        job_ids = [job_id.decode() for job_id in cast("list[bytes]", waiting)]
        asked = [keys.pace(name.decode()) for name in cast("set[bytes]", names)]
        asked += [keys.work(job_id) for job_id in job_ids]
        found = cast("list[bytes | None]", self.connection.mget(asked)) if asked else []
        workers = [pace for raw in found[: len(names)] if (pace := WorkerPace.read(raw))]
        works = found[len(names) :]
        costs = {raw: _cost(raw, workers) for raw in set(works)}  # most requests are alike
        return _prospect(job_ids, [costs[raw] for raw in works], workers)


def _prospect(job_ids: Sequence[str], costs: Sequence[Cost | None], workers: Sequence[WorkerPace]) -> Prospect:
    known = [cost for cost in takewhile(lambda cost: cost is not None, costs) if cost is not None]
    serving = [worker for worker in workers if not worker.loading]  # nobody knows how long a load takes
    running = [cost.times(worker.slowness) for worker in serving for cost in worker.left]
    seats = sum(worker.seats for worker in serving)
    spans = forecast(running, known, seats, len(serving)) if known and serving else []
    return Prospect(
        job_ids=job_ids,
        spans=dict(zip(job_ids, spans, strict=False)),
        cost_s=sum(cost.share_s for cost in known) if len(known) == len(costs) else None,
        at=time.monotonic(),
    )


def _cost(raw: bytes | None, workers: Sequence[WorkerPace]) -> Cost | None:
    try:
        return expected(Work.model_validate_json(raw), workers) if raw else None
    except ValidationError:
        return None
