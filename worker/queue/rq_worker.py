"""RQ's worker as a batch session: RQ hands it one job, it admits more at step boundaries, until none is left.

RQ's loop, registration, retries, results and registries stay untouched and stay the truth for a job's life. All Redis
traffic of the loop happens in ``_boundary``. ``outcomes.py`` has how jobs leave, and ``upkeep.py`` what a worker does
beside its jobs. Rules and reasons: ``docs/design/queue.md``.
"""

import json
import time
from functools import partial
from types import FrameType
from typing import Any, cast

from redis.exceptions import RedisError, ResponseError
from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout, StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.utils import now
from rq.worker import WorkerStatus

from jobs.connection import is_away, is_full
from worker.queue.failures import failure_of
from worker.queue.inpaint_queue import InpaintQueue
from worker.queue.leases import Heartbeat, Leases, Seat
from worker.queue.outcomes import NotWritten, Outcomes, is_suspect
from worker.queue.reporter import Reporter
from worker.queue.upkeep import AWAY_S, Upkeep

KEPT_S = 0.1
"""Time between two boundaries while every seat holds a result that the store has no room for."""

POLL_S = 1
"""How long an idle pop blocks: it bounds the delay of maintenance and of SIGTERM."""

BOUNDARY_AWAY_S = 0.3
"""Time between two boundaries while Redis does not serve."""

BOUNDARY_S = 0.25
"""A step boundary that takes longer has waited for Redis; jobs are not charged for it."""


class BatchWorker(SimpleWorker):
    """One process, one device, many jobs at once.

    Args:
        queues: exactly one queue; with more, RQ pops in a way that can lose a job.
        reporter: everything beside RQ. RQ itself builds instances without one when it lists workers; those never work.
    """

    queue_class = InpaintQueue
    log_result_lifespan = False

    def __init__(self, queues: Any = (), *args: Any, reporter: Reporter | None = None, **kwargs: Any) -> None:
        super().__init__(queues, *args, **kwargs)
        self._drain_at: float | None = None
        if reporter is not None:
            queue, settings = self._queue(), reporter.settings
            self.reporter, self.settings, self.session = reporter, settings, reporter.session
            self.leases = Leases(self.connection, settings.lease_s, reporter.clock)
            self.outcomes = Outcomes(self, queue, self.leases, reporter)
            self.upkeep = Upkeep(self, queue, self.leases, self.outcomes, reporter, settings)
            self.pulse = Heartbeat(self.upkeep.beat, lambda: bool(self.seats), settings.beat_s, settings.stall_s)

    @property
    def seats(self) -> dict[str, Seat]:
        return self.leases.seats

    def _queue(self) -> InpaintQueue:
        return cast(InpaintQueue, self.queues[0])

    # ---- signals and commands: they only set flags

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """First signal: admit nothing more, finish within the grace period. Second: hand everything back at once."""
        self._shutdown_requested_date = now()
        grace_s = self.settings.grace_s if self._drain_at is None else 0.0
        self._drain_at = time.monotonic() + grace_s
        self._stop_requested = True

    def request_stop_execution(self, execution_id: str) -> None:
        if seat := self.seats.get(execution_id):
            self.reporter.flag_cancel(seat.job_id)

    def handle_payload(self, message: Any) -> None:
        payload = json.loads(message["data"])
        if payload["command"] == "stop-job":  # RQ's own handler knows of one job only
            self.reporter.flag_cancel(payload["job_id"])
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
        """Run jobs until the batch is empty. RQ's loop calls it with the first job."""
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
            if self.seats and all(seat.kept_since for seat in self.leases.held):
                time.sleep(KEPT_S)
            self.session.turn()
        self.set_state("idle")

    def _boundary(self) -> None:
        """Do all Redis traffic between two steps; deadlines are checked first, before Redis can take long."""
        self.outcomes.fail_overdue()
        self.outcomes.write_all()
        self.outcomes.sweep()
        self._maintain()
        if self._stop_requested:
            if self._drain_at is not None and time.monotonic() >= self._drain_at:
                self.outcomes.hand_back_all()
        else:
            self._fill()

    def _fill(self) -> None:
        """Admit waiting jobs while seats are free."""
        while len(self.seats) < self.settings.seats and not any(is_suspect(seat.job) for seat in self.leases.held):
            job = self._queue().pop(None)
            if job is None:
                return
            if is_suspect(job) and self.seats:
                self._queue().put_back(job)
                return
            self._admit(job)

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
            if self.reporter.is_canceled(job.id):  # between the pop and now; its uploads may be gone
                self.outcomes.end_canceled(job, execution)
                return
            self.leases.take(Seat(job, execution, self.reporter.begin(job)))
        except Exception as error:
            if is_away(error) or isinstance(error, NotWritten):
                raise  # it was never stepped: the lease lapses and maintenance queues it again
            self.outcomes.fail(job, execution, failure_of(error))

    # ---- the process

    @property
    def stop_was_asked_for(self) -> bool:
        """RQ's ``work()`` returns normally after a fatal error too; the process must then not exit with 0."""
        return bool(self._stop_requested)

    def work(self, *args: Any, **kwargs: Any) -> bool:
        assert len(self.queues) == 1, "with several queues RQ pops in a way that can lose a job"
        self.upkeep.start()
        self.pulse.start()
        try:
            return bool(super().work(*args, **kwargs))
        finally:
            self.pulse.end()

    # ---- RQ's other hooks

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        return self.settings.lease_s

    def prepare_execution(self, job: Job) -> Execution:
        return self.upkeep.take_lease(job, partial(super().set_state, WorkerStatus.BUSY))

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        record = partial(super().handle_job_failure, job, queue, started_job_registry, exc_string, execution)
        self.outcomes.record_rq_failure(job, execution, record)

    @property
    def should_run_maintenance_tasks(self) -> bool:
        return self.upkeep.is_due

    def run_maintenance_tasks(self) -> None:
        self.upkeep.maintain(super().run_maintenance_tasks)

    def clean_registries(self) -> None:
        self.upkeep.reclaim()

    def register_birth(self) -> None:
        self.upkeep.when_served(super().register_birth)

    def subscribe(self) -> None:
        self.upkeep.when_served(super().subscribe)

    def check_for_suspension(self, burst: bool) -> None:
        self.upkeep.when_served(partial(super().check_for_suspension, burst))

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        if pipeline is not None:  # the thread beats; RQ's own beats are written only where they cost no call
            super().heartbeat(timeout, pipeline)

    def set_state(self, state: str, pipeline: Any = None) -> None:
        self.upkeep.show_state(partial(super().set_state, state, pipeline))

    def teardown(self) -> None:
        self.pulse.end()
        self.upkeep.leave(super().teardown)
