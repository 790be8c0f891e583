"""Who gets a seat in the running batch and when. A real Redis, a tiny real model, one worker in this process."""

import json
import zlib
from collections.abc import Iterator

import pytest
from redis import Redis
from rq.exceptions import StopRequested
from rq.job import JobStatus as RqStatus

from jobs.queue import JOB_FUNCTION
from tests.worker.batch_workers import (
    SETTINGS,
    attempt,
    begin,
    boundaries,
    counted,
    ends,
    fresh,
    make_worker,
    run,
    seat_of,
    submit,
    tiny_model,
    uploads_left,
    waiting,
)
from worker.queue.rq_worker import BatchWorker


@pytest.fixture
def worker(connection: Redis) -> Iterator[BatchWorker]:
    made = make_worker(connection, "w", tiny_model())
    yield made
    made.session.shutdown()


@pytest.mark.parametrize("seats", [1, 2, 8])
def test_as_many_jobs_run_at_once_as_there_are_seats_and_never_more(connection: Redis, seats: int) -> None:
    worker = make_worker(connection, "w", tiny_model(), SETTINGS.model_copy(update={"seats": seats}))
    jobs = [submit(connection, seed=seed) for seed in range(seats + 1)]
    begin(worker)
    seated = [len(ids) for ids in boundaries(worker)]
    worker.session.shutdown()
    assert seated[0] == max(seated) == seats
    assert [fresh(job).get_status() for job in jobs] == [RqStatus.FINISHED] * (seats + 1)
    assert counted(worker, "succeeded") == ends(worker) == seats + 1


def test_jobs_are_admitted_in_the_order_of_the_queue(connection: Redis, worker: BatchWorker) -> None:
    jobs = [submit(connection, seed=seed) for seed in range(3)]
    begin(worker)
    assert next(boundaries(worker)) == [job.id for job in jobs]
    run(worker)


def test_nothing_joins_a_job_that_two_workers_died_with(connection: Redis, worker: BatchWorker) -> None:
    suspect = submit(connection, deaths=2)
    mates = [submit(connection, seed=seed) for seed in (2, 3)]
    begin(worker)
    companies = [seated for seated in boundaries(worker) if suspect.id in seated]
    assert companies and all(seated == [suspect.id] for seated in companies)
    assert attempt(worker, suspect) == 3
    assert {fresh(job).get_status() for job in (suspect, *mates)} == {RqStatus.FINISHED}


def test_a_job_that_two_workers_died_with_waits_for_an_empty_batch_and_is_not_overtaken(
    connection: Redis, worker: BatchWorker
) -> None:
    first = submit(connection)
    suspect, later = submit(connection, deaths=2), submit(connection, seed=2)
    begin(worker)
    companies = []
    for seated in boundaries(worker):
        companies += [seated] if seated and seated not in companies else []
        if seated == [first.id]:
            assert waiting(worker) == [suspect.id, later.id]
            assert not connection.exists(worker._queue().intermediate_queue_key)
    assert companies == [[first.id], [suspect.id], [later.id]]


def test_a_job_that_one_worker_died_with_shares_the_batch(connection: Redis, worker: BatchWorker) -> None:
    jobs = [submit(connection, seed=seed, deaths=1) for seed in range(2)]
    begin(worker)
    assert next(boundaries(worker)) == [job.id for job in jobs]
    assert [attempt(worker, job) for job in jobs] == [2, 2]
    run(worker)


def test_a_job_canceled_between_the_pop_and_its_lease_never_begins(connection: Redis, worker: BatchWorker) -> None:
    job = submit(connection)
    popped = worker._queue().pop(None)
    assert popped == job
    worker.reporter.store.flag_cancel(job.id)
    worker._admit(popped)
    assert not worker.seats and not worker.session.tasks
    assert fresh(job).get_status() == RqStatus.STOPPED and fresh(job).ended_at
    assert (counted(worker, "canceled"), ends(worker), uploads_left(job)) == (1, 1, 0)
    assert not connection.zcard(job.started_job_registry.key)


def test_an_admitted_job_is_started_and_leased_before_its_first_step(connection: Redis, worker: BatchWorker) -> None:
    job = submit(connection)
    seat = begin(worker)
    assert seat_of(worker, job) is seat
    assert fresh(job).get_status() == RqStatus.STARTED
    assert connection.zscore(job.started_job_registry.key, seat.execution.composite_key) is not None
    assert not connection.exists(worker._queue().intermediate_queue_key)
    assert worker.reporter.store.progress(job.id) == {"attempt": 1, "step": 0, "steps": 3, "loading": 0}
    run(worker)


FOREIGN = {
    "no JSON": b"garbage",
    "another function": json.dumps(["os.system", None, [], {}]).encode(),
    "fields of another version": json.dumps([JOB_FUNCTION, None, [], {"prompt": 7}]).encode(),
}


@pytest.mark.parametrize("record", FOREIGN.values(), ids=FOREIGN)
def test_a_record_that_is_not_ours_fails_once_and_leaves_the_batch_alone(
    connection: Redis, worker: BatchWorker, record: bytes
) -> None:
    good, foreign = submit(connection), submit(connection)
    connection.hset(foreign.key, "data", zlib.compress(record))
    begin(worker)
    assert next(boundaries(worker)) == [good.id]
    assert (fresh(foreign).get_status(), fresh(foreign).retries_left) == (RqStatus.FAILED, 0)
    run(worker)
    assert fresh(good).get_status() == RqStatus.FINISHED
    assert (counted(worker, "undecodable_job"), counted(worker, "succeeded")) == (1, 1)


def test_after_a_first_signal_what_runs_is_finished_and_nothing_is_admitted(
    connection: Redis, worker: BatchWorker
) -> None:
    running, left = submit(connection), submit(connection)
    begin(worker)
    worker.request_stop(15, None)
    assert worker.stop_was_asked_for
    run(worker)
    assert fresh(running).get_status() == RqStatus.FINISHED
    assert waiting(worker) == [left.id]


def test_after_a_second_signal_the_jobs_stand_at_the_front_again_in_their_order(
    connection: Redis, worker: BatchWorker
) -> None:
    jobs = [submit(connection, seed=seed) for seed in range(3)]
    begin(worker)
    next(boundaries(worker))
    last = submit(connection)
    for _ in range(2):
        worker.request_stop(15, None)
    worker._boundary()
    assert waiting(worker) == [job.id for job in (*jobs, last)]
    assert not worker.seats and not worker.session.tasks and not worker.executions
    for job in map(fresh, jobs):
        assert (job.get_status(), job.retries_left) == (RqStatus.QUEUED, SETTINGS.max_attempts - 1)
        assert uploads_left(job) == 2
    assert not connection.zcard(last.started_job_registry.key)
    assert ends(worker) == 0


def test_a_worker_without_a_batch_stops_when_it_is_asked_to(worker: BatchWorker) -> None:
    worker.request_stop(15, None)
    with pytest.raises(StopRequested):
        worker.dequeue_job_and_maintain_ttl(1)
