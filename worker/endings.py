"""How a job leaves its worker: with an outcome, canceled, handed back, or lost to another worker.

Every outcome is fenced by ``Leases.still_held``: a worker that was away for longer than its lease writes nothing. A
seat is left once its job's end is in Redis; until then it is tried again at each step boundary.
"""

import time
from typing import Any, cast

from redis.exceptions import ResponseError
from rq import Queue, SimpleWorker
from rq.executions import Execution
from rq.job import Job
from rq.job import JobStatus as RqStatus
from rq.utils import now

from jobs.errors import Crashed, JobFailure, NotStored
from jobs.schema import JobReport
from worker.desk import Desk
from worker.failures import failure_of, problem_of
from worker.inpaint_queue import InpaintQueue
from worker.leases import Leases, Seat
from worker.session import Session

DEATHS = "deaths"
"""In a job's ``meta``: how many leases on it have lapsed."""

STORE_AGAIN_S = 1.0
"""Time between two looks whether a kept result has room now."""


class NotWritten(ResponseError):
    """RQ has logged an error of Redis' and gone on; the end of a job is not written."""


class JobEndings(SimpleWorker):
    """The half of the worker that settles, fails, stops, hands back and drops; ``BatchWorker`` is the other half."""

    desk: Desk
    session: Session
    leases: Leases

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._crashed: set[str] = set()
        self.push_exc_handler(self._lapsed)

    def _settle(self, seat: Seat) -> None:
        """Write the outcome, once: only while the lease is ours. A result that finds no room stays for a while."""
        if time.monotonic() < seat.next_try:
            return
        if not self.leases.still_held(seat):
            self._drop(seat)
            return
        if isinstance(seat.task.outcome, Exception):
            self._fail(seat.job, seat.execution, failure_of(seat.task.outcome))
        elif report := self._stored(seat):
            self._finalize_success(seat.job, self._queue(), seat.execution, report.model_dump(mode="json"))
            self.desk.note_success(report, seat.task)
        else:
            return
        self._leave(seat)

    def _stored(self, seat: Seat) -> JobReport | None:
        """The report of a result that is in the store now; None for one that is kept, or has been for too long."""
        try:
            seat.report = seat.report or self.desk.store_result(seat.task)
        except NotStored as error:
            now_s = time.monotonic()
            seat.kept_since = now_s if seat.kept_since is None else seat.kept_since
            if now_s - seat.kept_since >= self.desk.settings.result_patience_s:
                seat.task.fail(error)
            else:
                self.log.warning("the result of job %s is kept: %s", seat.job.id, error)
                seat.next_try = now_s + STORE_AGAIN_S
        return seat.report

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

    def _lapsed(self, job: Job, *_: object) -> None:
        """RQ found the lease lapsed, and is about to save the job."""
        job.meta = {**_meta(job), DEATHS: deaths(job) + 1}
        self._abandoned(job)

    def _abandoned(self, job: Job) -> None:
        """It is about to be queued again or, after its last attempt, to be failed."""
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
        """RQ calls it without an execution where a worker died between popping a job and taking its lease.

        It logs an error of Redis and goes on, as if the end had been written: NotWritten is raised then.
        """
        if execution is None:
            self._abandoned(job)
        left_before = job.retries_left
        super().handle_job_failure(job, queue, started_job_registry, exc_string, execution)
        if not self._is_written(job, tried_again=job.retries_left != left_before):
            job.retries_left = left_before
            raise NotWritten(f"The end of job {job.id} is not written.")

    def _is_written(self, job: Job, tried_again: bool) -> bool:
        """Whether Redis has the failure, or the next attempt; or nothing at all of the job."""
        status, left = cast("list[bytes | None]", self.connection.hmget(job.key, "status", "retries_left"))
        if tried_again:
            return left is None or int(left) <= (job.retries_left or 0)
        return status is None or status.decode() in (RqStatus.FAILED, RqStatus.STOPPED)

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


def deaths(job: Job) -> int:
    """How many leases on the job have lapsed: a worker died with it, hung, or was frozen."""
    counted = _meta(job).get(DEATHS, 0)
    return counted if isinstance(counted, int) else 0


def _meta(job: Job) -> dict[str, Any]:
    """Anything may stand there in a record that was not written by this version of the API."""
    return job.meta if isinstance(job.meta, dict) else {}
