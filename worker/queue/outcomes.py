"""How a job leaves its worker: with an outcome, canceled, handed back, or lost to another worker.

``Leases.still_held`` guards every outcome: a worker that was away for longer than its lease writes nothing. A seat is
left once its job's end is in Redis; until then the end is written again at each step boundary.
"""

import time
from collections.abc import Callable
from typing import Any, cast

from redis.exceptions import ResponseError
from rq import SimpleWorker
from rq.executions import Execution
from rq.job import Job
from rq.job import JobStatus as RqStatus
from rq.utils import now

from jobs.errors import Crashed, DeadlineExceeded, JobFailure, NotStored
from jobs.schema import JobReport
from worker.engine.task import Task
from worker.queue.failures import failure_of, problem_of
from worker.queue.inpaint_queue import InpaintQueue, comes_back_first
from worker.queue.job_lines import log_end
from worker.queue.leases import Leases, Seat
from worker.queue.reporter import Reporter

DEATHS = "deaths"
"""In a job's ``meta``: how many leases on it have lapsed."""

STORE_AGAIN_S = 1.0
"""Time between two tries to store a kept result."""


class NotWritten(ResponseError):
    """RQ has logged an error of Redis and gone on; the end of a job is not written."""


class Outcomes:
    """Writes the ends of jobs.

    Args:
        rq: RQ's worker; it writes RQ's own records.
        queue: the queue that the jobs come from, and go back to.
        leases: the seats of this worker.
        reporter: writes everything that is not RQ's.
    """

    def __init__(self, rq: SimpleWorker, queue: InpaintQueue, leases: Leases, reporter: Reporter) -> None:
        self.rq = rq
        self.queue = queue
        self.leases = leases
        self.reporter = reporter
        self.log = rq.log
        self._crashed: dict[str, Job] = {}
        rq.push_exc_handler(self._count_death)

    def fail_overdue(self) -> None:
        """Set the outcome of every job that has run for longer than its deadline."""
        for seat in [seat for seat in self.leases.held if seat.overdue]:
            seat.fail(DeadlineExceeded(f"The job ran for more than its deadline of {seat.job.timeout} s."))

    def write_all(self) -> None:
        """Write every outcome that is there. One that Redis refuses does not hold up the others."""
        for seat in [seat for seat in self.leases.held if seat.outcome is not None]:
            try:
                self.write(seat)
            except ResponseError as error:
                self.log.warning("the end of job %s is not written yet: %s", seat.job_id, error)

    def write(self, seat: Seat) -> None:
        """Write the outcome, once: only while the lease is ours. A result that finds no room stays for a while."""
        if time.monotonic() < seat.next_try:
            return
        if not self.leases.still_held(seat):
            self.drop(seat)
            return
        if isinstance(seat.outcome, Exception):
            self.fail(seat.job, seat.execution, failure_of(seat.outcome), seat.task)
        elif report := self._stored(seat):
            self.rq._finalize_success(seat.job, self.queue, seat.execution, report.model_dump(mode="json"))
            log_end(seat.job, "succeeded", seat.task, report)
            self.reporter.record_success(report, seat.task)
        else:
            return
        self._leave(seat)

    def _stored(self, seat: Seat) -> JobReport | None:
        """The report of a result that is in the store now; None for one that is kept, or has been for too long."""
        try:
            seat.report = seat.report or self.reporter.store_result(seat.task)
        except NotStored as error:
            now_s = time.monotonic()
            seat.kept_since = now_s if seat.kept_since is None else seat.kept_since
            if now_s - seat.kept_since >= self.reporter.result_patience_s:
                seat.fail(error)
            else:
                self.log.warning("the result of job %s is kept: %s", seat.job_id, error)
                seat.next_try = now_s + STORE_AGAIN_S
        return seat.report

    def fail(self, job: Job, execution: Execution, failure: JobFailure, task: Task | None = None) -> None:
        """Record why; RQ tries the job again where that can help and attempts are left."""
        self.log.error("job %s failed: %s", job.id, failure.code, exc_info=failure.__cause__)
        if not failure.retryable:
            job.retries_left = 0
        job.ended_at = now()
        tried_again = job.should_retry
        text = problem_of(failure).model_dump_json()
        self.rq.handle_job_failure(job, self.queue, exc_string=text, execution=execution)
        if not tried_again:
            log_end(job, failure.code, task)
            self.reporter.record_failure(failure.code, job.id)

    def sweep(self) -> None:
        """Publish progress and read cancel flags; canceled and lost jobs leave."""
        seats = self.leases.held
        if not seats:
            return
        canceled = self.reporter.publish([seat.task for seat in seats])
        for seat in seats:
            if self.leases.is_lost(seat):
                self.drop(seat)
            elif seat.job_id in canceled:
                self.stop(seat)

    def stop(self, seat: Seat) -> None:
        """The caller canceled the job."""
        if not self.leases.still_held(seat):
            self.drop(seat)
            return
        self.end_canceled(seat.job, seat.execution, seat.task)
        self._leave(seat)

    def end_canceled(self, job: Job, execution: Execution, task: Task | None = None) -> None:
        """Record that its caller canceled the job. The job need not have a seat."""
        self.rq._stopped_job_id = job.id
        job.ended_at = now()
        self.rq.handle_job_failure(job, self.queue, exc_string="canceled", execution=execution)
        log_end(job, "canceled", task)
        self.reporter.record_failure("canceled", job.id)

    def hand_back_all(self) -> None:
        """Hand every job back; of each priority, the one that began first ends up first in the queue."""
        held = self.leases.held
        first = [seat for seat in reversed(held) if comes_back_first(seat.job)]
        for seat in first + [seat for seat in held if not comes_back_first(seat.job)]:
            self.hand_back(seat)

    def hand_back(self, seat: Seat) -> None:
        """Draining: give the job back to the queue; no attempt is spent."""
        if not self.leases.still_held(seat):
            self.drop(seat)
            return
        with self.rq.connection.pipeline() as pipeline:
            pipeline.multi()
            self.rq.cleanup_execution(seat.job, pipeline=pipeline, execution=seat.execution)
            self.queue.enqueue_job(seat.job, pipeline=pipeline, at_front=comes_back_first(seat.job))
            pipeline.execute()
        self._leave(seat)

    def drop(self, seat: Seat) -> None:
        """Another worker has the job now: write nothing."""
        self.log.warning("lost the lease of job %s; dropping it", seat.job_id)
        with self.rq.connection.pipeline() as pipeline:
            self.rq.cleanup_execution(seat.job, pipeline=pipeline, execution=seat.execution)
            pipeline.execute()
        self._leave(seat)

    def _leave(self, seat: Seat) -> None:
        self.reporter.drop(seat.task)
        self.leases.give_up(seat)

    # ---- jobs whose worker has died

    def _count_death(self, job: Job, *_: object) -> None:
        """RQ calls it when it has found a lease lapsed, just before it saves the job."""
        job.meta = {**_meta(job), DEATHS: deaths(job) + 1}
        self._mark_crashed(job)

    def _mark_crashed(self, job: Job) -> None:
        """RQ queues the job again next or, after its last attempt, fails it."""
        if job.should_retry:
            self.log.warning("job %s has lost its worker: it is tried again", job.id)
        else:
            job.ended_at = now()  # saved with the failure; RQ leaves it empty
            self._crashed[job.id] = job

    def record_crashes(self) -> None:
        """Publish the ends of crashed jobs, once RQ has written them: a waiting caller then finds the end."""
        while self._crashed:
            job_id, job = next(iter(self._crashed.items()))
            self.log.error("job %s failed: %s", job_id, Crashed.code)
            log_end(job, Crashed.code)
            self.reporter.record_failure(Crashed.code, job_id)
            del self._crashed[job_id]

    # ---- RQ's own record of a failure

    def record_rq_failure(self, job: Job, execution: Execution | None, record: Callable[[], Any]) -> None:
        """Have RQ ``record`` a failure. RQ logs an error of Redis and goes on; this raises NotWritten then.

        ``execution`` is None where a worker died between popping the job and taking its lease.
        """
        if execution is None:
            self._mark_crashed(job)
        left_before = job.retries_left
        record()
        if not self._is_written(job, tried_again=job.retries_left != left_before):
            job.retries_left = left_before
            raise NotWritten(f"The end of job {job.id} is not written.")

    def _is_written(self, job: Job, tried_again: bool) -> bool:
        """Whether Redis has the failure, or the next attempt; or nothing at all of the job."""
        status, left = cast("list[bytes | None]", self.rq.connection.hmget(job.key, "status", "retries_left"))
        if tried_again:
            return left is None or int(left) <= (job.retries_left or 0)
        return status is None or status.decode() in (RqStatus.FAILED, RqStatus.STOPPED)


def is_suspect(job: Job) -> bool:
    """Whether two workers died with the job. It then runs alone, so that it cannot take its batch mates down again."""
    return deaths(job) >= 2


def deaths(job: Job) -> int:
    """How many leases on the job have lapsed: a worker died with it, hung, or was frozen."""
    counted = _meta(job).get(DEATHS, 0)
    return counted if isinstance(counted, int) else 0


def _meta(job: Job) -> dict[str, Any]:
    """A job's ``meta``; empty where a foreign record holds something else."""
    return job.meta if isinstance(job.meta, dict) else {}
