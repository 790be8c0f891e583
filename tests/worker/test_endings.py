"""Jobs that other workers died with, as the worker that finds them treats them. Real Redis, no model."""

import time
from collections.abc import Callable

import pytest
from redis import Redis
from rq.job import Job
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer

from jobs import keys
from jobs.catalog import load_catalog
from jobs.queue import JobQueue
from jobs.schema import InpaintParameters, MaskReport
from jobs.store import Store
from worker.desk import Desk
from worker.engine import Engine
from worker.inpaint_queue import SEEN_FOR_S, InpaintQueue
from worker.rq_worker import BatchWorker
from worker.session import Session
from worker.settings import WorkerSettings

SETTINGS = WorkerSettings(lease_s=3)
MASK = MaskReport(mode="white", coverage=0.1, bbox=(0, 0, 8, 8), soft=False)


def make_worker(connection: Redis, name: str) -> BatchWorker:
    session = Session(Engine({}, 1), 1)
    desk = Desk(name, Store(connection, SETTINGS), load_catalog(None), session, SETTINGS)
    queue = InpaintQueue(SETTINGS.queue_name, connection=connection, serializer=JSONSerializer)
    return BatchWorker([queue], name=name, connection=connection, serializer=JSONSerializer, desk=desk)


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


DEATHS = pytest.mark.parametrize("die", [popped_by_the_dead, begun_by_the_dead])


def reclaim(connection: Redis, die: Callable[[BatchWorker, Redis, Job], None], retries_left: int) -> BatchWorker:
    """A job that a worker died with, and the living one that has looked for such jobs."""
    queue = JobQueue(connection, SETTINGS)
    parameters = InpaintParameters.model_validate(
        {
            "model": "pocket",
            "seed": 1,
            "num_inference_steps": 1,
            "guidance_scale": 1,
            "strength": 1,
            "scheduler": "ddim",
            "masked_content": "original",
        }
    )
    job = queue.job(queue.submit(parameters, MASK, b"image", b"mask").job_id)
    job.retries_left = retries_left
    job.save()
    die(make_worker(connection, "dead"), connection, job)
    while connection.info("server")["uptime_in_seconds"] < SETTINGS.lease_s + 2:  # it trusts no lease before
        time.sleep(0.1)
    living = make_worker(connection, "living")
    living.clean_registries()
    return living


def counted(worker: BatchWorker) -> float:
    return worker.desk.metrics.registry.get_sample_value("infill_jobs_ended_total", {"outcome": "crashed"}) or 0.0


def only_job(connection: Redis) -> Job:
    (key,) = connection.keys("rq:job:*")
    return Job.fetch(key.decode().rpartition(":")[2], connection=connection, serializer=JSONSerializer)


@DEATHS
def test_a_job_whose_last_attempt_died_is_counted_and_its_uploads_go(
    connection: Redis, die: Callable[[BatchWorker, Redis, Job], None]
) -> None:
    living = reclaim(connection, die, retries_left=0)
    job = only_job(connection)
    assert job.get_status() == RqStatus.FAILED and job.ended_at
    assert counted(living) == 1
    assert connection.llen(keys.ENDED) == 1
    assert not connection.exists(keys.image(job.id), keys.mask(job.id))
    living.clean_registries()
    assert counted(living) == 1


@DEATHS
def test_a_job_with_attempts_left_is_queued_again_and_keeps_its_uploads(
    connection: Redis, die: Callable[[BatchWorker, Redis, Job], None]
) -> None:
    living = reclaim(connection, die, retries_left=2)
    job = only_job(connection)
    assert job.get_status() == RqStatus.QUEUED and job.retries_left == 1 and job.ended_at is None
    assert connection.lrange(living._queue().key, 0, -1) == [job.id.encode()]
    assert counted(living) == 0 and not connection.exists(keys.ENDED)
    assert connection.exists(keys.image(job.id), keys.mask(job.id)) == 2
