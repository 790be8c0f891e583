"""The queue: bounded, idempotent submission; canceling; what a job in RQ looks like."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from rq.job import JobStatus as RqStatus

from jobs import keys
from jobs.errors import IdempotencyConflict, JobAlreadyFinished, JobNotFound, QueueFull, StoreFull
from jobs.eta import Workload
from jobs.queue import JOB_FUNCTION, Idempotency, JobQueue, parameters_of
from jobs.schema import MaskReport
from tests.jobs.submissions import MASK, PARAMETERS, queue_with

WORK = Workload(model="pocket", area_px=65_536, calls=20, rows=1, images=1)


def submit(queue: JobQueue, idempotency: Idempotency | None = None) -> str:
    return queue.submit(PARAMETERS, MASK, {"image": b"image", "mask": b"mask"}, idempotency).job_id


def test_a_job_carries_its_parameters_as_json_and_nothing_else(connection: Redis) -> None:
    queue = queue_with(connection)
    job = queue.job(submit(queue))
    assert parameters_of(job) == PARAMETERS
    assert MaskReport.model_validate(job.meta["mask"]) == MASK
    assert (job.func_name, job.description, job.get_status()) == (JOB_FUNCTION, "inpaint", RqStatus.QUEUED)
    assert (job.timeout, job.result_ttl, job.failure_ttl, job.retries_left) == (300, 86_400, 86_400, 4)
    assert job.enqueue_at_front_on_retry
    assert queue.store.inputs(job.id) == {"image": b"image", "mask": b"mask"}


def test_inputs_have_a_lifetime_and_a_waiting_job_has_none(connection: Redis) -> None:
    queue = queue_with(connection, input_ttl_s=100)
    job_id = submit(queue)
    assert 98 <= connection.ttl(keys.picture(job_id, "image")) <= 100
    assert 98 <= connection.ttl(keys.picture(job_id, "mask")) <= 100
    assert connection.ttl(f"rq:job:{job_id}") == -1


def test_what_is_kept_beside_a_job_has_a_lifetime(connection: Redis) -> None:
    queue = queue_with(connection, input_ttl_s=100, record_ttl_s=200)
    key = Idempotency("digest", "fingerprint")
    job_id = queue.submit(PARAMETERS, MASK, {"image": b"i", "mask": b"m"}, key, "caller", WORK, ["few steps"]).job_id
    assert connection.get(keys.caller(job_id)) == b"caller"
    assert Workload.model_validate_json(connection.get(keys.workload(job_id)) or b"") == WORK
    assert queue.job(job_id).meta["approximate"] == ["few steps"]
    lifetimes = [connection.ttl(name) for name in (keys.caller(job_id), keys.workload(job_id))]
    assert all(98 <= ttl <= 100 for ttl in lifetimes)
    assert 198 <= connection.ttl(keys.idempotency("digest")) <= 200


def test_room_is_refused_at_the_limit_and_not_below_it(connection: Redis) -> None:
    queue = queue_with(connection, queue_limit=2)
    submit(queue)
    queue.check_room()
    submit(queue)
    with pytest.raises(QueueFull, match="2 jobs wait already; at most 2 may"):
        queue.check_room()


def test_the_limit_is_exact_under_32_threads(connection: Redis) -> None:
    queue = queue_with(connection, queue_limit=20)
    together = threading.Barrier(32)

    def attempt(_: int) -> bool:
        together.wait()
        try:
            submit(queue)
        except QueueFull as error:
            assert error.retry_after_s >= 1
            return False
        return True

    with ThreadPoolExecutor(32) as pool:
        accepted = sum(pool.map(attempt, range(32)))
    assert (accepted, queue.depth()) == (20, 20)
    assert len(connection.keys("infill:*:image")) == 20


def test_one_key_makes_one_job(connection: Redis) -> None:
    queue = queue_with(connection)
    key = Idempotency("digest", "fingerprint")
    first = queue.submit(PARAMETERS, MASK, {"image": b"image", "mask": b"mask"}, key)
    second = queue.submit(PARAMETERS, MASK, {"image": b"image", "mask": b"mask"}, key)
    assert (first.replayed, second.replayed) == (False, True)
    assert second.job_id == first.job_id
    assert queue.depth() == 1
    assert len(connection.keys("infill:*:image")) == 1


def test_sixteen_threads_with_one_key_make_one_job(connection: Redis) -> None:
    queue = queue_with(connection)
    together = threading.Barrier(16)

    def attempt(_: int) -> str:
        together.wait()
        return submit(queue, Idempotency("digest", "fingerprint"))

    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(attempt, range(16)))
    assert len(ids) == queue.depth() == len(connection.keys("infill:*:image")) == 1


def test_one_key_with_two_requests_is_a_conflict_and_leaves_nothing(connection: Redis) -> None:
    queue = queue_with(connection)
    submit(queue, Idempotency("digest", "one"))
    with pytest.raises(IdempotencyConflict):
        submit(queue, Idempotency("digest", "two"))
    assert len(connection.keys("infill:*:image")) == 1


def test_a_known_key_is_answered_while_the_queue_is_full(connection: Redis) -> None:
    queue = queue_with(connection, queue_limit=1)
    key = Idempotency("digest", "fingerprint")
    job_id = submit(queue, key)
    with pytest.raises(QueueFull):
        submit(queue)
    assert submit(queue, key) == job_id


def test_a_store_above_its_share_is_full(connection: Redis) -> None:
    queue = queue_with(connection, memory_share=0.5)
    assert queue.store.memory_share() == 0  # no limit set
    connection.set("other", bytes(2_000_000))
    connection.config_set("maxmemory", connection.info("memory")["used_memory"] + 1_000_000)
    with pytest.raises(StoreFull):
        submit(queue)
    assert connection.keys() == [b"other"]


@pytest.mark.parametrize("job_id", ["0" * 32, "a:b", "a b", "", "ä", "x\n"])
def test_unknown_ids_are_not_found(connection: Redis, job_id: str) -> None:
    queue = queue_with(connection)
    with pytest.raises(JobNotFound):
        queue.job(job_id)
    with pytest.raises(JobNotFound):
        queue.cancel(job_id)


def test_a_job_of_another_queue_is_not_found(connection: Redis) -> None:
    job_id = submit(queue_with(connection, queue_name="other"))
    with pytest.raises(JobNotFound):
        queue_with(connection).job(job_id)


def test_an_execution_key_is_not_an_id(connection: Redis) -> None:
    queue = queue_with(connection)
    with pytest.raises(JobNotFound):
        queue.job(submit(queue) + ":execution")


def test_a_canceled_job_leaves_the_queue_and_only_its_record_with_a_lifetime(connection: Redis) -> None:
    queue = queue_with(connection, record_ttl_s=100)
    job_id = submit(queue)
    queue.cancel(job_id)
    queue.cancel(job_id)
    assert queue.job(job_id).get_status() == RqStatus.CANCELED
    assert queue.job(job_id).ended_at is not None
    assert (queue.depth(), queue.position(job_id)) == (0, None)
    assert 98 <= connection.ttl(f"rq:job:{job_id}") <= 100
    flag = keys.cancel(job_id)  # a worker that popped the job in this moment must still see it
    assert connection.keys(f"infill:{job_id}:*") == [flag.encode()]
    assert 98 <= connection.ttl(flag) <= 100


def test_a_job_that_has_ended_cannot_be_canceled(connection: Redis) -> None:
    queue = queue_with(connection)
    job = queue.job(submit(queue))
    job.set_status(RqStatus.FINISHED)
    with pytest.raises(JobAlreadyFinished):
        queue.cancel(job.id)
    assert queue.store.canceled([job.id]) == set()


def test_a_job_that_was_stopped_is_canceled_already(connection: Redis) -> None:
    queue = queue_with(connection)
    job = queue.job(submit(queue))
    job.set_status(RqStatus.STOPPED)
    queue.cancel(job.id)
    assert (job.get_status(), queue.store.canceled([job.id])) == (RqStatus.STOPPED, set())


def test_a_job_that_was_picked_up_meanwhile_is_not_taken_out_of_the_queue(connection: Redis) -> None:
    """It was queued when the caller's cancel looked at it."""
    queue = queue_with(connection)
    job = queue.job(submit(queue))
    job.set_status(RqStatus.STARTED)
    assert not queue._cancel_queued(job)
    assert job.get_status() == RqStatus.STARTED
    assert not connection.exists(keys.ENDED)


def test_a_running_job_is_only_flagged(connection: Redis) -> None:
    queue = queue_with(connection)
    job = queue.job(submit(queue))
    job.set_status(RqStatus.STARTED)
    queue.cancel(job.id)
    assert queue.store.canceled([job.id, "other"]) == {job.id}
    assert job.get_status() == RqStatus.STARTED


def test_positions_count_the_jobs_ahead(connection: Redis) -> None:
    queue = queue_with(connection)
    ids = [submit(queue) for _ in range(3)]
    assert [queue.position(job_id) for job_id in ids] == [0, 1, 2]


def test_retry_after_is_bounded(connection: Redis) -> None:
    queue = queue_with(connection)
    assert queue.retry_after_s() == 5
    now = float(connection.time()[0])
    for _ in range(3):
        submit(queue)
    connection.lpush(keys.ENDED, now - 5000, now - 4000)
    assert queue.retry_after_s() == 60
    connection.delete(keys.ENDED)
    connection.lpush(keys.ENDED, *[now] * 64)
    assert queue.retry_after_s() == 1
    connection.delete(queue.rq.key)
    assert queue.retry_after_s() == 1


def test_retry_after_is_never_too_early(connection: Redis) -> None:
    queue = queue_with(connection)
    submit(queue)
    now = float(connection.time()[0])
    connection.lpush(keys.ENDED, now - 8.1, now - 4)  # one job waits, which takes a little more than 4 s
    assert queue.retry_after_s() == 5
