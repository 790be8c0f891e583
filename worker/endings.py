"""How a job leaves its worker: with an outcome, canceled, handed back, or lost to another worker.

Every outcome is fenced by ``Leases.still_held``: a worker that was away for longer than its lease writes nothing.
"""

from typing import Any, cast

from rq import Queue, SimpleWorker
from rq.executions import Execution
from rq.job import Job
from rq.utils import now

from jobs.errors import Crashed, JobFailure
from worker.desk import Desk
from worker.failures import failure_of, problem_of
from worker.inpaint_queue import InpaintQueue
from worker.leases import Leases, Seat
from worker.session import Session


class JobEndings(SimpleWorker):
    """The half of the worker that settles, fails, stops, hands back and drops; ``BatchWorker`` is the other half."""

    desk: Desk
    session: Session
    leases: Leases

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._crashed: set[str] = set()
        self.push_exc_handler(self._abandoned)

    def _settle(self, seat: Seat) -> None:
        """Write the outcome, once: only while the lease is ours."""
        if not self.leases.still_held(seat):
            self._drop(seat)
            return
        if isinstance(seat.task.outcome, Exception):
            self._fail(seat.job, seat.execution, failure_of(seat.task.outcome))
        else:
            report = self.desk.store_result(seat.task)
            self._finalize_success(seat.job, self._queue(), seat.execution, report.model_dump(mode="json"))
            self.desk.note_success(report, seat.task)
        self._leave(seat)

    def _fail(self, job: Job, execution: Execution, failure: JobFailure) -> None:
        """Record why; RQ tries the job again where that can help and attempts are left."""
        self.log.error("job %s failed: %s", job.id, failure.code, exc_info=failure.__cause__)
        if not failure.retryable:
            job.retries_left = 0
        job.ended_at = now()
        tried_again = job.should_retry
        text = problem_of(failure).model_dump_json()
        self.handle_job_failure(job, self._queue(), exc_string=text, execution=execution)
        if not tried_again:
            self.desk.note_failure(failure.code, job.id)

    def _stop(self, seat: Seat) -> None:
        """The caller canceled the job."""
        if not self.leases.still_held(seat):
            self._drop(seat)
            return
        self._end_canceled(seat.job, seat.execution)
        self._leave(seat)

    def _end_canceled(self, job: Job, execution: Execution) -> None:
        self._stopped_job_id = job.id
        job.ended_at = now()
        self.handle_job_failure(job, self._queue(), exc_string="canceled", execution=execution)
        self.desk.note_failure("canceled", job.id)

    def _hand_back(self, seat: Seat) -> None:
        """Draining: give the job back at the front of the queue; no attempt is spent."""
        if not self.leases.still_held(seat):
            self._drop(seat)
            return
        with self.connection.pipeline() as pipeline:
            pipeline.multi()
            self.cleanup_execution(seat.job, pipeline=pipeline, execution=seat.execution)
            self._queue().enqueue_job(seat.job, pipeline=pipeline, at_front=True)
            pipeline.execute()
        self._leave(seat)

    def _drop(self, seat: Seat) -> None:
        """Another worker has the job now: write nothing."""
        self.log.warning("lost the lease of job %s; dropping it", seat.job.id)
        with self.connection.pipeline() as pipeline:
            self.cleanup_execution(seat.job, pipeline=pipeline, execution=seat.execution)
            pipeline.execute()
        self._leave(seat)

    # ---- jobs whose worker has died

    def _abandoned(self, job: Job, *_: object) -> None:
        """RQ found the lease lapsed, and is about to queue the job again or, after its last attempt, to fail it."""
        if not job.should_retry:
            job.ended_at = now()  # saved with the failure; RQ leaves it empty
            self._crashed.add(job.id)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        """RQ calls it without an execution where a worker died between popping a job and taking its lease."""
        if execution is None:
            self._abandoned(job)
        super().handle_job_failure(job, queue, started_job_registry, exc_string, execution)

    def _note_crashes(self) -> None:
        """After RQ has written them down: a waiter that is woken must find the end."""
        while self._crashed:
            job_id = next(iter(self._crashed))
            self.log.error("job %s failed: %s", job_id, Crashed.code)
            self.desk.note_failure(Crashed.code, job_id)
            self._crashed.discard(job_id)

    # ---- what all have in common

    def _leave(self, seat: Seat) -> None:
        self.session.drop(seat.task)
        self.leases.give_up(seat)

    def _queue(self) -> InpaintQueue:
        return cast(InpaintQueue, self.queues[0])
