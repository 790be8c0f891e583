"""RQ's worker as a batch session: RQ hands it one job, it admits more at step boundaries, until none is left.

RQ's loop, registration, retries, results and registries stay untouched and stay the truth for a job's life. All Redis
traffic of the loop happens in ``_boundary``. How jobs leave is in ``worker/endings.py``. Rules and reasons:
``docs/architecture.md``, "The queue".
"""

import json
import math
import time
from types import FrameType
from typing import Any

from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import DequeueTimeout, StopRequested
from rq.job import Job
from rq.utils import now

from jobs.connection import is_away
from jobs.errors import DeadlineExceeded
from worker.desk import Desk
from worker.endings import JobEndings
from worker.failures import failure_of
from worker.inpaint_queue import InpaintQueue
from worker.leases import Heartbeat, Leases, Seat

POLL_S = 1
"""How long an idle pop blocks: it bounds the delay of maintenance and of SIGTERM."""

BOUNDARY_S = 0.25
"""A step boundary that takes longer has waited for Redis: no job's own time."""


class BatchWorker(JobEndings):
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
        self._beaten_at = time.monotonic()
        self._back_at = -math.inf
        if desk is not None:
            self.desk, self.settings, self.session = desk, desk.settings, desk.session
            self.leases = Leases(self.connection, self.settings.lease_s)
            beat_s, stall_s = self.settings.beat_s, self.settings.stall_s
            self.pulse = Heartbeat(self.beat, lambda: bool(self.seats), beat_s, stall_s)

    @property
    def seats(self) -> dict[str, Seat]:
        return self.leases.seats

    # ---- leases

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        return self.settings.lease_s

    def beat(self) -> None:
        """Called by the heartbeat's thread: renew the leases, say that this worker lives."""
        seats = self.leases.renew(lambda pipeline: self.heartbeat(self.worker_ttl + 60, pipeline=pipeline))
        self.desk.announce([seat.job.id for seat in seats])
        if self._out_of_touch():  # also where one beat took that long, trying again and again
            self._back_at = time.monotonic()
        self._beaten_at = time.monotonic()

    def _out_of_touch(self) -> bool:
        """Whether no beat has reached Redis for half a lease. The announcement at the start counts as the first."""
        return time.monotonic() - self._beaten_at > self.settings.lease_s / 2

    def _leases_look_lapsed(self) -> bool:
        """Whether Redis restarted or was away (a failover, a cut) so lately that living workers' leases have lapsed."""
        patience_s = self.settings.lease_s + 2
        asked_at = time.monotonic()
        uptime_s = self.connection.info("server")["uptime_in_seconds"]
        if time.monotonic() - asked_at > self.settings.lease_s / 2:  # this very question waited for a failover
            self._back_at = time.monotonic()
        lately = time.monotonic() - self._back_at < patience_s
        return bool(lately or self._out_of_touch() or uptime_s < patience_s)

    def clean_registries(self) -> None:
        """Reclaim dead workers' jobs, once every living worker had the time to renew its leases."""
        if self._leases_look_lapsed():
            self.last_cleaned_at = now()  # type: ignore[assignment]  # RQ declares it by its first value, None
            return
        super().clean_registries()
        self._note_crashes()
        forgotten = time.time() - self.settings.record_ttl_s
        self.connection.zremrangebyscore(self._queue().canceled_job_registry.key, 0, forgotten)  # RQ itself never does

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
                if not is_away(error):
                    raise
                self.log.warning("Redis does not answer: %s", error)
                time.sleep(0.5)

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
                if not is_away(error):
                    raise
                self.log.warning("Redis does not answer at a step boundary: %s", error)
                time.sleep(0.3)
                continue
            finally:
                if (took_s := time.perf_counter() - began) > BOUNDARY_S:
                    self.session.held_up(took_s, "redis")
            self.session.turn()
        self.set_state("idle")

    def _boundary(self) -> None:
        """All Redis traffic between two steps; whose deadline has passed is seen before Redis can take long."""
        for seat in [seat for seat in self.seats.values() if seat.task.overdue]:
            seat.task.fail(DeadlineExceeded(f"The job ran for more than its deadline of {seat.job.timeout} s."))
        for seat in list(self.seats.values()):
            if seat.task.outcome is not None:
                self._settle(seat)
        self._sweep()
        self._maintain()
        if self._stop_requested:
            if self._drain_at is not None and time.monotonic() >= self._drain_at:
                for seat in reversed(list(self.seats.values())):
                    self._hand_back(seat)
        else:
            self._fill()

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
        left = job.retries_left
        return left is not None and left <= self.settings.max_attempts - 3

    def _admit(self, job: Job) -> None:
        """Take the lease first, so that nothing popped is without an owner for long; then begin."""
        execution = self.prepare_execution(job)
        try:
            self.prepare_job_execution(job, True)
            job.started_at = now()
            if self.desk.store.canceled([job.id]):  # between the pop and now; its uploads may be gone
                self._end_canceled(job, execution)
                return
            self.leases.take(Seat(job, execution, self.desk.begin(job)))
        except Exception as error:
            if is_away(error):  # it was never stepped: the lease lapses and maintenance queues it again
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
        self.desk.announce([])
        self.desk.tell_widths()
        self._beaten_at = time.monotonic()
        self.pulse.start()
        try:
            return bool(super().work(*args, **kwargs))
        finally:
            self.pulse.end()
            self.desk.withdraw()
