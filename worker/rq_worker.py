"""RQ's worker as a batch session: RQ hands it one job, it admits more at step boundaries, until none is left.

RQ's loop, registration, retries, results and registries stay untouched and stay the truth for a job's life. All Redis
traffic of the loop happens in ``_boundary``. How jobs leave is in ``worker/endings.py``, and what a worker does beside
its jobs in ``worker/upkeep.py``. Rules and reasons:
``docs/architecture.md``, "The queue".
"""

import json
import time
from types import FrameType
from typing import Any

from redis.exceptions import RedisError, ResponseError
from rq import Queue
from rq.exceptions import DequeueTimeout, StopRequested
from rq.job import Job
from rq.utils import now

from jobs.connection import is_away, is_full
from jobs.errors import DeadlineExceeded
from worker.desk import Desk
from worker.endings import NotWritten, deaths
from worker.failures import failure_of
from worker.inpaint_queue import InpaintQueue
from worker.leases import Heartbeat, Leases, Seat
from worker.upkeep import AWAY_S, Upkeep

KEPT_S = 0.1
"""Time between two boundaries while all that is here are results without room in the store."""

POLL_S = 1
"""How long an idle pop blocks: it bounds the delay of maintenance and of SIGTERM."""

BOUNDARY_AWAY_S = 0.3
"""Time between two boundaries while Redis does not serve."""

BOUNDARY_S = 0.25
"""A step boundary that takes longer has waited for Redis: no job's own time."""


class BatchWorker(Upkeep):
    """One process, one device, many jobs at once.

    Args:
        queues: exactly one queue; with more, RQ pops in a way that can lose a job.
        desk: everything beside RQ. RQ itself builds instances without one when it lists workers; those never work.
    """

    queue_class = InpaintQueue
    log_result_lifespan = False

    def __init__(self, queues: Any = (), *args: Any, desk: Desk | None = None, **kwargs: Any) -> None:
        super().__init__(queues, *args, **kwargs)
        self._drain_at: float | None = None
        if desk is not None:
            self.desk, self.settings, self.session = desk, desk.settings, desk.session
            self.leases = Leases(self.connection, self.settings.lease_s, desk.clock)
            beat_s, stall_s = self.settings.beat_s, self.settings.stall_s
            self.pulse = Heartbeat(self.beat, lambda: bool(self.seats), beat_s, stall_s)

    @property
    def seats(self) -> dict[str, Seat]:
        return self.leases.seats

    # ---- signals and commands: they only set flags

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """First signal: admit nothing more, finish within the grace period. Second: hand everything back at once."""
        self._shutdown_requested_date = now()
        grace_s = self.settings.grace_s if self._drain_at is None else 0.0
        self._drain_at = time.monotonic() + grace_s
        self._stop_requested = True

    def request_stop_execution(self, execution_id: str) -> None:
        if seat := self.seats.get(execution_id):
            self.desk.store.flag_cancel(seat.job.id)

    def handle_payload(self, message: Any) -> None:
        payload = json.loads(message["data"])
        if payload["command"] == "stop-job":  # RQ's own handler knows of one job only
            self.desk.store.flag_cancel(payload["job_id"])
        else:
            super().handle_payload(message)

    # ---- popping

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for the first job of a session."""
        self.set_state("idle")
        while True:
            if self._stop_requested:
                raise StopRequested
            try:
                self._maintain()
                job = self._queue().pop(None if timeout is None else POLL_S)
                if job or timeout is None:
                    return (job, self._queue()) if job else None
            except DequeueTimeout:
                continue
            except RedisError as error:
                self.log.warning("Redis does not answer: %s", error)
                time.sleep(AWAY_S)

    def _maintain(self) -> None:
        if self.should_run_maintenance_tasks:
            self.run_maintenance_tasks()

    # ---- the batch session

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Called by RQ's loop with the first job; returns when the batch is empty."""
        first: Job | None = job
        while first or self.seats:
            self.pulse.moved()
            began = time.perf_counter()
            try:
                if first:
                    admitted, first = first, None
                    self._admit(admitted)
                self._boundary()
            except RedisError as error:  # keep the latents and try again; the leases decide later
                self.log.warning("Redis does not answer at a step boundary: %s", error)
                time.sleep(BOUNDARY_AWAY_S)
                if is_away(error) and not is_full(error):
                    continue
            finally:
                if (took_s := time.perf_counter() - began) > BOUNDARY_S:
                    self.session.held_up(took_s, "redis")
            if self.seats and all(seat.kept_since for seat in self.seats.values()):
                time.sleep(KEPT_S)
            self.session.turn()
        self.set_state("idle")

    def _boundary(self) -> None:
        """All Redis traffic between two steps; whose deadline has passed is seen before Redis can take long."""
        for seat in [seat for seat in self.seats.values() if seat.task.overdue]:
            seat.task.fail(DeadlineExceeded(f"The job ran for more than its deadline of {seat.job.timeout} s."))
        self._settle_all()
        self._sweep()
        self._maintain()
        if self._stop_requested:
            if self._drain_at is not None and time.monotonic() >= self._drain_at:
                for seat in reversed(list(self.seats.values())):
                    self._hand_back(seat)
        else:
            self._fill()

    def _settle_all(self) -> None:
        """One that Redis refuses does not hold up the others; it is tried again."""
        for seat in [seat for seat in self.seats.values() if seat.task.outcome is not None]:
            try:
                self._settle(seat)
            except ResponseError as error:
                self.log.warning("the end of job %s is not written yet: %s", seat.job.id, error)

    def _fill(self) -> None:
        while len(self.seats) < self.settings.seats and not any(self._suspect(s.job) for s in self.seats.values()):
            job = self._queue().pop(None)
            if job is None:
                return
            if self._suspect(job) and self.seats:
                self._queue().put_back(job)
                return
            self._admit(job)

    def _suspect(self, job: Job) -> bool:
        """A job that two workers died with runs alone, so that it cannot take its batch mates down again."""
        return deaths(job) >= 2

    def _admit(self, job: Job) -> None:
        """Take the lease first, so that nothing popped is without an owner for long; then begin."""
        try:
            execution = self.prepare_execution(job)
        except ResponseError as error:
            if is_away(error):  # the transaction was refused: nothing of it is written
                self._queue().put_back(job)
            raise
        try:
            self.prepare_job_execution(job, True)
            job.started_at = now()
            if self.desk.store.canceled([job.id]):  # between the pop and now; its uploads may be gone
                self._end_canceled(job, execution)
                return
            self.leases.take(Seat(job, execution, self.desk.begin(job)))
        except Exception as error:
            if is_away(error) or isinstance(
                error, NotWritten
            ):  # it was never stepped: the lease lapses and maintenance queues it again
                raise
            self._fail(job, execution, failure_of(error))

    def _sweep(self) -> None:
        """Progress out, cancel flags in; canceled and lost jobs leave."""
        if not self.seats:
            return
        seats = list(self.seats.values())
        canceled = self.desk.publish([seat.task for seat in seats])
        for seat in seats:
            if self.leases.is_lost(seat):
                self._drop(seat)
            elif seat.job.id in canceled:
                self._stop(seat)

    # ---- the process

    @property
    def stop_was_asked_for(self) -> bool:
        """RQ's ``work()`` returns normally after a fatal error too; the process must then not exit with 0."""
        return bool(self._stop_requested)

    def work(self, *args: Any, **kwargs: Any) -> bool:
        assert len(self.queues) == 1, "with several queues RQ pops in a way that can lose a job"
        self._announced()
        self._beaten_at = time.monotonic()
        self.pulse.start()
        try:
            return bool(super().work(*args, **kwargs))
        finally:
            self.pulse.end()
