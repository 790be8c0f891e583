"""When a waiting job will end: the queue simulated from the jobs' workloads and the workers' speeds.

Estimates are computed on request from records. There are no counters that a crash could leave wrong.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from threading import Lock
from typing import cast

from pydantic import ValidationError
from redis import Redis

from jobs import keys
from jobs.eta import Workload, expected
from jobs.schema import Priority
from jobs.simulation import Interval, Simulation
from jobs.speed import Cost, WorkerSpeed
from jobs.waiting_jobs import FRESH_S, WaitingJobs


class QueueEstimate:
    """The queue as it was at one moment, and the jobs that this process has added since.

    Args:
        job_ids: the waiting jobs, the next one first.
        costs: what each of them costs; None where that is unknown.
        workers: the speeds of the living workers.
    """

    def __init__(self, job_ids: Sequence[str], costs: Sequence[Cost | None], workers: Sequence[WorkerSpeed]) -> None:
        self.at = time.monotonic()
        self.workers = workers
        self.job_ids = list(job_ids)
        self.cost_s: float | None = 0.0
        """Seconds of the devices' time that all waiting jobs cost together; None if one of them is unknown."""
        serving = [worker for worker in workers if not worker.loading]  # how long a load takes is not known
        running = [cost.times(worker.slowdown) for worker in serving for cost in worker.left]
        self._simulation = Simulation(running, sum(worker.seats for worker in serving), len(serving))
        self._serving = self._predictable = bool(serving)
        self._indices: dict[str, int | None] = {}
        self._overtaking: dict[str, Interval | None] = {}
        self._delays_s = defaultdict[str, float](float)  # of a waiting job, by those that have overtaken it since
        self._lock = Lock()
        for job_id, cost in zip(job_ids, costs, strict=True):
            self._append(job_id, cost, 0.0)

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.at

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._indices or job_id in self._overtaking

    def interval(self, job_id: str) -> Interval | None:
        """When a job runs, in seconds from ``at``. None if too little is known of it or of one ahead of it."""
        with self._lock:
            return self._interval(job_id)

    def middle(self, job_ids: Sequence[str]) -> Interval | None:
        """When the middle one of these jobs runs; None if too little is known, or if there is none."""
        return self.interval(job_ids[(len(job_ids) - 1) // 2]) if job_ids else None

    def add(self, job_id: str, cost: Cost | None, overtaken: str | None) -> None:
        """Add a new job, at the end or before ``overtaken``. The jobs behind it keep their intervals.

        Where too little is known of the one that it overtakes, it is left out: the next estimate has it.
        """
        with self._lock:
            if job_id in self:
                return
            if overtaken is None:
                self.job_ids.append(job_id)
                self._append(job_id, cost, self.age_s)
            elif overtaken in self and not (self._serving and self._interval(overtaken) is None):
                self.job_ids.insert(self.job_ids.index(overtaken), job_id)
                self._overtaking[job_id] = self._before(overtaken, cost)
                self._add_cost(cost)

    def _append(self, job_id: str, cost: Cost | None, from_s: float) -> None:
        self._add_cost(cost)
        self._predictable = self._predictable and cost is not None
        self._indices[job_id] = self._simulation.add(cost, from_s) if cost and self._predictable else None

    def _before(self, overtaken: str, cost: Cost | None) -> Interval | None:
        behind = self._interval(overtaken)
        if behind is None or cost is None:
            return None
        start_s = behind.start_s + self._delays_s[overtaken]
        self._delays_s[overtaken] += cost.batched_s / self._simulation.devices
        return Interval(start_s, start_s + max(cost.alone_s, cost.batched_s * self._simulation.full_crowd))

    def _add_cost(self, cost: Cost | None) -> None:
        self.cost_s = None if cost is None or self.cost_s is None else self.cost_s + cost.batched_s

    def _interval(self, job_id: str) -> Interval | None:
        if job_id in self._overtaking:
            return self._overtaking[job_id]
        index = self._indices[job_id]
        return None if index is None else self._simulation.interval(index)


class QueueEta:
    """Answers from one estimate for ``FRESH_S``, if it has the job. Three round trips to Redis otherwise.

    Args:
        connection: of the API.
        waiting: the waiting jobs.
    """

    def __init__(self, connection: Redis, waiting: WaitingJobs) -> None:
        self.connection = connection
        self.waiting = waiting
        self._latest: QueueEstimate | None = None
        self._workloads: dict[str, bytes | None] = {}

    def eta_ms(self, job_id: str) -> float | None:
        """Predicted time until a waiting job ends. None if it does not wait, or if too little is known.

        Too little: no living worker has run its model, or that of a job ahead of it; or all of them load a model.
        """
        estimate = self._estimate(job_id)
        interval = estimate.interval(job_id) if job_id in estimate else None
        return None if interval is None else round(1000 * max(0.0, interval.end_s - estimate.age_s), 1)

    def room_s(self, priority: Priority) -> float | None:
        """Predicted time until half of the waiting jobs of a priority have been taken up; None if too little is known.

        A caller that comes then finds room, and comes before the workers run out of work.
        """
        estimate = self._estimate()
        queued = zip(estimate.job_ids, self.waiting.jobs(estimate.job_ids), strict=True)
        middle = estimate.middle([job_id for job_id, job in queued if job.priority == priority])
        return None if middle is None else max(0.0, middle.start_s - estimate.age_s)

    def cost_s(self) -> float | None:
        """What all waiting jobs cost together; None if a model among them is unknown."""
        return self._estimate().cost_s

    def added(self, job_id: str, work: Workload | None, overtaken: str | None) -> None:
        """This process has added a job to the queue, at the end or before ``overtaken``."""
        if (latest := self._latest) and latest.age_s < FRESH_S:
            latest.add(job_id, expected(work, latest.workers) if work else None, overtaken)

    def _estimate(self, job_id: str | None = None) -> QueueEstimate:
        latest = self._latest
        if latest is None or latest.age_s >= FRESH_S or (job_id is not None and job_id not in latest):
            latest = self._latest = self._look()
        return latest

    def _look(self) -> QueueEstimate:
        job_ids, known = self.waiting.ids(), self._workloads
        names = cast("set[bytes]", self.connection.smembers(keys.WORKERS))
        unknown = [job_id for job_id in job_ids if job_id not in known]
        asked = [keys.speed(name.decode()) for name in names] + [keys.workload(job_id) for job_id in unknown]
        found = cast("list[bytes | None]", self.connection.mget(asked)) if asked else []
        workers = [speed for raw in found[: len(names)] if (speed := WorkerSpeed.read(raw))]
        read = dict(zip(unknown, found[len(names) :], strict=True))
        works = {job_id: read[job_id] if job_id in read else known[job_id] for job_id in job_ids}
        self._workloads = works
        costs = {raw: _cost(raw, workers) for raw in set(works.values())}  # most requests are alike
        return QueueEstimate(job_ids, [costs[works[job_id]] for job_id in job_ids], workers)


def _cost(raw: bytes | None, workers: Sequence[WorkerSpeed]) -> Cost | None:
    try:
        return expected(Workload.model_validate_json(raw), workers) if raw else None
    except ValidationError:
        return None
