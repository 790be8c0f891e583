"""Jobs that another worker died with."""

import time
from collections.abc import Callable
from typing import cast

from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from tests.worker.batch_workers import SETTINGS, make_worker, submit
from worker.queue.inpaint_queue import SEEN_FOR_S
from worker.queue.rq_worker import BatchWorker


def popped_by_the_dead(worker: BatchWorker, connection: Redis, job: Job) -> None:
    """Killed right after the pop, a while ago."""
    assert worker._queue().pop(None) == job
    seen_first = f"{worker._queue().intermediate_queue_key}:first_seen:{job.id}"
    connection.set(seen_first, 1, ex=SEEN_FOR_S - 100)


def begun_by_the_dead(worker: BatchWorker, connection: Redis, job: Job) -> None:
    """Killed in mid-batch, longer than a lease ago."""
    assert worker._queue().pop(None) == job
    execution = worker.prepare_execution(job)
    worker.prepare_job_execution(job, True)
    connection.zadd(job.started_job_registry.key, {execution.composite_key: 1})


def wait_until_leases_count(connection: Redis) -> None:
    """Until then every lease may only look lapsed, as after a restart."""
    while connection.info("server")["uptime_in_seconds"] < SETTINGS.lease_s + 2:
        time.sleep(0.1)


def reclaim(connection: Redis, die: Callable[[BatchWorker, Redis, Job], None], retries_left: int) -> BatchWorker:
    """A job that a worker died with, and the living one that has looked for such jobs."""
    job = submit(connection, retries_left=retries_left)
    die(make_worker(connection, "dead"), connection, job)
    wait_until_leases_count(connection)
    living = make_worker(connection, "living")
    living.clean_registries()
    return living


def only_job(connection: Redis) -> Job:
    (key,) = cast("list[bytes]", connection.keys("rq:job:*"))
    return Job.fetch(key.decode().rpartition(":")[2], connection=connection, serializer=JSONSerializer)
