"""How jobs leave a worker: with an outcome, canceled, handed back, or lost. A real Redis, a tiny real model."""

from collections.abc import Callable, Iterator

import pytest
import torch
from redis import Redis
from rq.job import Job
from rq.job import JobStatus as RqStatus

from jobs.errors import DeadlineExceeded
from jobs.schema import JobProblem, JobReport
from tests.worker import tiny
from tests.worker.batch_workers import (
    SETTINGS,
    attempt,
    begin,
    boundaries,
    counted,
    ends,
    fresh,
    lose_lease,
    make_worker,
    run,
    step_until_done,
    submit,
    tiny_model,
    uploads_left,
    waiting,
)
from worker.queue.leases import Seat
from worker.queue.rq_worker import BatchWorker

ATTEMPTS = SETTINGS.max_attempts


@pytest.fixture
def worker(connection: Redis) -> Iterator[BatchWorker]:
    made = make_worker(connection, "w", tiny_model())
    yield made
    made.session.shutdown()


def problem(job: Job) -> str:
    """The code that its caller reads."""
    result = fresh(job).latest_result()
    assert result is not None and result.exc_string
    return JobProblem.model_validate_json(result.exc_string).code


# ---- outcomes


def test_a_job_that_succeeds_leaves_its_report_and_images_and_no_uploads(
    connection: Redis, worker: BatchWorker
) -> None:
    job = submit(connection, n=2)
    begin(worker)
    run(worker)
    report = JobReport.model_validate(fresh(job).return_value())
    images = [worker.reporter.store.result(job.id, index) for index in range(3)]
    assert fresh(job).get_status() == RqStatus.FINISHED
    assert [image and len(image) for image in images] == [*(info.size_bytes for info in report.images), None]
    assert (counted(worker, "succeeded"), ends(worker), uploads_left(job)) == (1, 1, 0)
    assert not worker.seats and not worker.session.tasks and not worker.executions
    assert not connection.zcard(job.started_job_registry.key)


def test_a_failure_that_cannot_end_better_is_tried_once(connection: Redis, worker: BatchWorker) -> None:
    job = submit(connection, image=b"no picture")
    begin(worker)
    run(worker)
    assert (fresh(job).get_status(), fresh(job).retries_left) == (RqStatus.FAILED, 0)
    assert fresh(job).ended_at and waiting(worker) == []
    assert (attempt(worker, job), problem(job)) == (1, "undecodable_job")
    assert (counted(worker, "undecodable_job"), ends(worker), uploads_left(job)) == (1, 1, 0)
    worker.outcomes.record_crashes()
    assert counted(worker, "crashed") == 0


class Broken(torch.nn.Module):
    """A network whose error nobody foresaw."""

    def forward(self, *_: object, **__: object) -> None:
        raise RuntimeError("broken")


def test_a_failure_that_nobody_foresaw_is_tried_again_at_the_front_until_no_attempt_is_left(
    connection: Redis,
) -> None:
    model = tiny.model("sd", "concat")
    model.network = Broken()
    settings = SETTINGS.model_copy(update={"seats": 1})
    worker = make_worker(connection, "w", {"tiny": model}, settings)
    job, later = submit(connection), submit(connection)
    for tried in range(1, ATTEMPTS + 1):
        assert waiting(worker) == [job.id, later.id]
        assert (uploads_left(job), ends(worker)) == (2, 0)
        seat = begin(worker)
        assert attempt(worker, job) == tried
        step_until_done(worker, seat)
        worker.outcomes.write(seat)
    worker.session.shutdown()
    assert (fresh(job).get_status(), problem(job)) == (RqStatus.FAILED, "internal_error")
    assert (counted(worker, "internal_error"), ends(worker), uploads_left(job)) == (1, 1, 0)
    assert waiting(worker) == [later.id]


def test_a_job_over_its_deadline_fails_alone_and_is_not_tried_again(connection: Redis, worker: BatchWorker) -> None:
    late, mate = submit(connection), submit(connection)
    seat = begin(worker)
    next(boundaries(worker))
    seat.task.deadline_s = 0.0
    worker._boundary()
    assert (fresh(late).get_status(), problem(late)) == (RqStatus.FAILED, "deadline_exceeded")
    assert (attempt(worker, late), fresh(late).retries_left, waiting(worker)) == (1, 0, [])
    assert (counted(worker, "deadline_exceeded"), ends(worker)) == (1, 1)
    run(worker)
    assert fresh(mate).get_status() == RqStatus.FINISHED


def test_a_canceled_job_leaves_at_the_next_boundary_and_its_mates_go_on(connection: Redis, worker: BatchWorker) -> None:
    canceled, mate = submit(connection), submit(connection)
    begin(worker)
    next(boundaries(worker))
    worker.reporter.store.flag_cancel(canceled.id)
    worker._boundary()
    assert [seat.job.id for seat in worker.seats.values()] == [mate.id]
    assert (fresh(canceled).get_status(), waiting(worker)) == (RqStatus.STOPPED, [])
    assert fresh(canceled).ended_at
    assert (counted(worker, "canceled"), ends(worker), uploads_left(canceled)) == (1, 1, 0)
    run(worker)
    assert fresh(mate).get_status() == RqStatus.FINISHED


# ---- a lease that is gone


def succeed(worker: BatchWorker, seat: Seat) -> None:
    step_until_done(worker, seat)


def fail(_worker: BatchWorker, seat: Seat) -> None:
    seat.task.fail(DeadlineExceeded("too long"))


def cancel(worker: BatchWorker, seat: Seat) -> None:
    worker.reporter.store.flag_cancel(seat.job.id)


def drain(worker: BatchWorker, _seat: Seat) -> None:
    for _ in range(2):
        worker.request_stop(15, None)


def notice(worker: BatchWorker, seat: Seat) -> None:
    lose_lease(worker, seat)
    worker.upkeep.beat()


@pytest.mark.parametrize("leave", [succeed, fail, cancel, drain, notice])
def test_a_worker_whose_lease_is_gone_writes_nothing_and_drops_the_job(
    connection: Redis, worker: BatchWorker, leave: Callable[[BatchWorker, Seat], None]
) -> None:
    job = submit(connection)
    seat = begin(worker)
    leave(worker, seat)
    if leave is not notice:
        lose_lease(worker, seat)
    worker._boundary()
    assert not worker.seats and not worker.session.tasks and not worker.executions
    assert (fresh(job).get_status(), fresh(job).retries_left) == (RqStatus.STARTED, ATTEMPTS - 1)
    assert fresh(job).latest_result() is None and worker.reporter.store.result(job.id, 0) is None
    assert (ends(worker), uploads_left(job), waiting(worker)) == (0, 2, [])
    assert not connection.exists(f"rq:execution:{job.id}:{seat.execution.id}")
