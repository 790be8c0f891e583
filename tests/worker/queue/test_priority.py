"""A job of low priority that comes back from a worker stands behind all that wait."""

import signal

from redis import Redis

from jobs.queue import JobQueue
from jobs.schema import Priority
from tests.factories import inpaint_parameters
from tests.worker.batch_workers import MASK, SETTINGS, begin, make_worker, waiting
from tests.worker.tasks import uploads


def submitted(connection: Redis, priority: Priority) -> str:
    queue = JobQueue(connection, SETTINGS)
    return queue.submit(inpaint_parameters(), MASK, uploads(), priority=priority).job_id


def test_a_worker_takes_one_of_low_priority_only_when_no_other_waits(connection: Redis) -> None:
    worker = make_worker(connection, "w")
    low, normal = submitted(connection, "low"), submitted(connection, "normal")
    assert [begin(worker).job_id for _ in range(2)] == [normal, low]


def test_a_worker_that_drains_hands_them_back_behind_all_others_in_the_order_they_began(connection: Redis) -> None:
    worker = make_worker(connection, "w")
    low = [submitted(connection, "low") for _ in range(2)]
    for _ in low:
        begin(worker)
    normal = [submitted(connection, "normal") for _ in range(2)]
    for _ in normal:
        begin(worker)
    last = submitted(connection, "normal")
    worker.request_stop(signal.SIGTERM, None)
    worker.outcomes.hand_back_all()
    assert waiting(worker) == [*normal, last, *low]


def test_one_whose_worker_died_is_tried_again_behind_all_others(connection: Redis) -> None:
    worker = make_worker(connection, "w")
    low = submitted(connection, "low")
    seat = begin(worker)
    normal = submitted(connection, "normal")
    connection.zadd(seat.job.started_job_registry.key, {seat.execution.composite_key: 1})  # its lease has lapsed
    worker._queue().clean(worker, at_s=2, canceled_before=0)
    assert waiting(worker) == [normal, low]


def test_one_that_was_popped_and_not_begun_goes_back_behind_all_others(connection: Redis) -> None:
    worker = make_worker(connection, "w")
    low = submitted(connection, "low")
    job = worker._queue().pop(None)
    assert job is not None
    normal = submitted(connection, "normal")
    worker._queue().put_back(job)
    assert waiting(worker) == [normal, low]
