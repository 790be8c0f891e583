"""Leases on jobs. A lease is a score in RQ's registry of started jobs; a worker whose lease lapses loses the job.

The score is the time at which the lease lapses, by Redis' clock. RQ first writes it by its own machine's clock; ours
follows in the same transaction.

A thread of its own renews the leases, because encoding or compiling can hold the main thread longer than a lease
lasts. The thread ends the process when the main thread passes no step boundary for too long.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis import Redis
from rq.executions import Execution
from rq.job import Job

from jobs.schema import JobReport
from worker.engine.task import Task
from worker.queue.redis_clock import RedisClock

log = logging.getLogger("worker.queue.leases")

STALLED_EXIT = 70
"""Exit status of a worker that ended itself because a device call hung."""


@dataclass(eq=False)
class Seat:
    """A job that this worker holds the lease of.

    ``report`` is there once the result is stored. A result that finds no room is kept from ``kept_since`` on and stored
    at ``next_try`` at the earliest, both on the monotonic clock.
    """

    job: Job
    execution: Execution
    task: Task
    report: JobReport | None = None
    kept_since: float | None = None
    next_try: float = 0.0

    @property
    def id(self) -> str:
        """RQ's id of this attempt."""
        return str(self.execution.id)

    @property
    def job_id(self) -> str:
        return str(self.job.id)

    @property
    def lease(self) -> tuple[str, str]:
        """Where the lease is in Redis: a sorted set's key, and the member."""
        return str(self.job.started_job_registry.key), str(self.execution.composite_key)

    @property
    def outcome(self) -> JobReport | Exception | None:
        return self.task.outcome

    @property
    def overdue(self) -> bool:
        return self.task.overdue

    def fail(self, error: Exception) -> None:
        self.task.fail(error)


class Leases:
    """The seats taken in this worker, by execution id, and which of them another worker has taken over."""

    def __init__(self, connection: Redis, lease_s: int, clock: RedisClock) -> None:
        self.connection = connection
        self.clock = clock
        self.lease_s = lease_s
        self.seats: dict[str, Seat] = {}
        self._lost: set[str] = set()

    @property
    def held(self) -> list[Seat]:
        """The seats, the job that began first at the start; a copy."""
        return list(self.seats.values())

    def take(self, seat: Seat) -> None:
        self.seats[seat.id] = seat

    def give_up(self, seat: Seat) -> None:
        self.seats.pop(seat.id, None)
        self._lost.discard(seat.id)

    def is_lost(self, seat: Seat) -> bool:
        """Whether the last renewal found the lease gone."""
        return seat.id in self._lost

    def renew(self, also: Callable[[Any], None]) -> list[Seat]:
        """Extend every lease, in one pipeline with whatever ``also`` adds to it. Returns the seats renewed."""
        seats = self.held
        with self.connection.pipeline() as pipeline:
            also(pipeline)
            for seat in seats:
                self._extend(seat, pipeline)
            for seat in seats:
                self._ask(seat, pipeline)
            replies = pipeline.execute()
        scores = replies[len(replies) - len(seats) :]
        lost = {seat.id for seat, score in zip(seats, scores, strict=True) if score is None}
        self._lost |= lost & set(self.seats)
        return seats

    def still_held(self, seat: Seat) -> bool:
        """Extend one lease; False if another worker has the job now, whose outcome is then not ours to write."""
        with self.connection.pipeline() as pipeline:
            self._extend(seat, pipeline)
            self._ask(seat, pipeline)
            return pipeline.execute()[-1] is not None

    def _extend(self, seat: Seat, pipeline: Any) -> None:
        """Queue a renewal. ZADD XX: a lease that has been taken away is not made anew."""
        seat.execution.heartbeat(seat.job.started_job_registry, self.lease_s, pipeline=pipeline)
        self.date(seat.job, seat.execution, pipeline)

    def date(self, job: Job, execution: Execution, pipeline: Any) -> None:
        """Queue a lease's length from now on as its score, behind what RQ has queued."""
        lapses_at = self.clock.now() + self.lease_s
        pipeline.zadd(job.started_job_registry.key, {execution.composite_key: lapses_at}, xx=True)

    def _ask(self, seat: Seat, pipeline: Any) -> None:
        """Queue the question whether the lease is there; the reply is None where it is gone."""
        pipeline.zscore(*seat.lease)


class Heartbeat(threading.Thread):
    """Calls ``beat`` every ``beat_s``; ends a busy process that passes no step boundary for longer than allowed."""

    def __init__(self, beat: Callable[[], None], busy: Callable[[], bool], beat_s: float, stall_s: float) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._beat, self._busy, self._beat_s, self._stall_s = beat, busy, beat_s, stall_s
        self._ended = threading.Event()
        self.moved()

    def moved(self, allowed_s: float | None = None) -> None:
        """The main thread has come to a step boundary; it may now stand still for ``allowed_s``, else ``stall_s``."""
        self._due_at = time.monotonic() + (self._stall_s if allowed_s is None else allowed_s)

    def end(self) -> None:
        self._ended.set()

    def run(self) -> None:
        while not self._ended.wait(self._beat_s):
            if self._busy() and time.monotonic() > self._due_at:
                log.error("no step boundary for too long: ending, so that the jobs are reclaimed")
                os._exit(STALLED_EXIT)
            try:
                self._beat()
            except Exception as error:
                log.warning("heartbeat failed: %s", error)
