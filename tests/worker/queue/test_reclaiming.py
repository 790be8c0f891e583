"""Jobs that other workers died with, as the worker that finds them treats them. Real Redis, no model."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from rq.job import Job
from rq.job import JobStatus as RqStatus

from tests.redis_server import RedisServer
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
    submit,
    tiny_model,
    uploads_left,
    waiting,
)
from tests.worker.dead_workers import begun_by_the_dead, only_job, popped_by_the_dead, reclaim, wait_until_leases_count
from worker.queue.rq_worker import BatchWorker

DEATHS = pytest.mark.parametrize("die", [popped_by_the_dead, begun_by_the_dead])


@DEATHS
def test_a_job_whose_last_attempt_died_is_counted_and_its_uploads_go(
    connection: Redis, die: Callable[[BatchWorker, Redis, Job], None]
) -> None:
    living = reclaim(connection, die, retries_left=0)
    job = only_job(connection)
    assert job.get_status() == RqStatus.FAILED and job.ended_at
    for _ in range(2):
        assert (counted(living, "crashed"), ends(living), uploads_left(job)) == (1, 1, 0)
        living.clean_registries()


@DEATHS
def test_a_job_with_attempts_left_is_queued_again_and_keeps_its_uploads(
    connection: Redis, die: Callable[[BatchWorker, Redis, Job], None]
) -> None:
    living = reclaim(connection, die, retries_left=2)
    job = only_job(connection)
    assert job.get_status() == RqStatus.QUEUED and job.retries_left == 1 and job.ended_at is None
    assert waiting(living) == [job.id]
    assert (counted(living, "crashed"), ends(living), uploads_left(job)) == (0, 0, 2)


# ---- leases that only look lapsed


def abandoned(connection: Redis) -> Job:
    """A job whose lease has lapsed."""
    job = submit(connection)
    begun_by_the_dead(make_worker(connection, "dead"), connection, job)
    return job


def test_after_a_start_of_redis_nothing_is_reclaimed_until_every_worker_could_beat(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, Redis.from_url(server.url) as connection:
        job = abandoned(connection)
        living = make_worker(connection, "living")
        living.run_maintenance_tasks()
        assert not living.should_run_maintenance_tasks  # not at every boundary again
        assert (fresh(job).get_status(), waiting(living)) == (RqStatus.STARTED, [])


def test_a_worker_that_was_out_of_touch_reclaims_nothing_until_every_worker_could_beat(connection: Redis) -> None:
    job = abandoned(connection)
    wait_until_leases_count(connection)
    living = make_worker(connection, "living")
    time.sleep(SETTINGS.lease_s / 2 + 0.1)
    living.clean_registries()
    assert fresh(job).get_status() == RqStatus.STARTED
    living.upkeep.beat()  # in touch again, and the others may not be yet
    living.clean_registries()
    assert fresh(job).get_status() == RqStatus.STARTED


def test_a_worker_whose_last_beat_is_fresh_reclaims_at_once(connection: Redis) -> None:
    job = abandoned(connection)
    wait_until_leases_count(connection)
    living = make_worker(connection, "living")
    for _ in range(2):
        time.sleep(SETTINGS.lease_s / 2 * 0.6)
        living.upkeep.beat()
    living.clean_registries()
    assert (fresh(job).get_status(), waiting(living)) == (RqStatus.QUEUED, [job.id])


def test_records_of_canceled_jobs_are_forgotten_after_their_lifetime(connection: Redis) -> None:
    living = make_worker(connection, "living")
    registry = living._queue().canceled_job_registry.key
    now = time.time()
    connection.zadd(registry, {"old": now - SETTINGS.record_ttl_s - 9, "young": now - SETTINGS.record_ttl_s + 9})
    wait_until_leases_count(connection)
    living.upkeep.beat()
    living.clean_registries()
    assert connection.zrange(registry, 0, -1) == [b"young"]


def test_a_busy_worker_looks_for_the_dead_ones_jobs_too(connection: Redis) -> None:
    job, own = abandoned(connection), submit(connection)
    wait_until_leases_count(connection)
    living = make_worker(connection, "living", tiny_model())
    begin(living)
    assert next(boundaries(living)) == [own.id, job.id]
    assert attempt(living, job) == 2
    run(living)
    living.session.shutdown()


def test_an_idle_worker_looks_for_the_dead_ones_jobs(connection: Redis) -> None:
    job = abandoned(connection)
    wait_until_leases_count(connection)
    living = make_worker(connection, "living")
    assert living.dequeue_job_and_maintain_ttl(None) == (job, living._queue())
