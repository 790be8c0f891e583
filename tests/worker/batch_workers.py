"""Jobs in a real Redis, and workers of this process that run them on a tiny real model, turn by turn."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from jobs import keys
from jobs.catalog import Catalog
from jobs.queue import JobQueue
from jobs.store import Store
from tests.factories import inpaint_parameters, mask_report, model_entry
from tests.worker import tiny
from tests.worker.tasks import uploads
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.families.base import Family
from worker.queue.inpaint_queue import InpaintQueue
from worker.queue.leases import Seat
from worker.queue.outcomes import DEATHS
from worker.queue.reporter import Reporter
from worker.queue.rq_worker import BatchWorker
from worker.settings import WorkerSettings

MASK = mask_report(coverage=0.1, bbox=(0, 0, 8, 8))
STEPS = 3
ENTRY = model_entry(num_inference_steps=STEPS)
CATALOG = Catalog(models={"tiny": ENTRY})
SETTINGS = WorkerSettings(lease_s=3)

Worker = Callable[..., BatchWorker]


def make_worker(
    connection: Redis, name: str, models: Mapping[str, Family] | None = None, settings: WorkerSettings = SETTINGS
) -> BatchWorker:
    """A worker as ``worker.main`` makes it, with models that lie on its device already; without one it runs no job."""
    session = Session(Engine(models or {}, 8), 1)
    reporter = Reporter(name, Store(connection, settings), CATALOG, session, settings)
    queue = InpaintQueue(settings.queue_name, connection=connection, serializer=JSONSerializer)
    return BatchWorker([queue], name=name, connection=connection, serializer=JSONSerializer, reporter=reporter)


def submit(
    connection: Redis,
    image: bytes | None = None,
    retries_left: int | None = None,
    deaths: int = 0,
    **asked: Any,
) -> Job:
    """A job that waits; ``retries_left``: as if other attempts had ended already; ``deaths``: workers it died with."""
    queue = JobQueue(connection, SETTINGS)
    inputs = uploads() if image is None else uploads() | {"image": image}
    parameters = inpaint_parameters(**{"num_inference_steps": STEPS, **asked})
    job = queue.job(queue.submit(parameters, MASK, inputs).job_id)
    if retries_left is not None:
        job.retries_left = retries_left
    if deaths:
        job.meta[DEATHS], job.retries_left = deaths, SETTINGS.max_attempts - 1 - deaths
    if deaths or retries_left is not None:  # else a worker may have begun it: its status would be overwritten
        job.save()
    return job


def begin(worker: BatchWorker) -> Seat:
    """The next job gets a seat, as RQ's loop has it."""
    job = worker._queue().pop(None)
    assert job is not None
    worker._admit(job)
    return seat_of(worker, job)


def seat_of(worker: BatchWorker, job: Job) -> Seat:
    (seat,) = (seat for seat in worker.seats.values() if seat.job.id == job.id)
    return seat


def boundaries(worker: BatchWorker) -> Iterator[list[str]]:
    """Run until the batch is empty, as ``execute_job`` does; the ids of the jobs in the seats after each boundary."""
    while worker.seats:
        worker._boundary()
        yield [seat.job.id for seat in worker.seats.values()]
        worker.session.turn()


def run(worker: BatchWorker) -> None:
    for _ in boundaries(worker):
        pass


def step_until_done(worker: BatchWorker, seat: Seat) -> None:
    """Its outcome is there, and is not written yet."""
    while seat.task.outcome is None:
        worker.session.turn()


def lose_lease(worker: BatchWorker, seat: Seat) -> None:
    """Another worker has found the lease lapsed and taken the job over."""
    assert worker.connection.zrem(seat.job.started_job_registry.key, seat.execution.composite_key) == 1


def fresh(job: Job) -> Job:
    """As it stands in Redis now."""
    return Job.fetch(job.id, connection=job.connection, serializer=JSONSerializer)


def waiting(worker: BatchWorker) -> list[str]:
    listed = cast("list[bytes]", worker.connection.lrange(worker._queue().key, 0, -1))
    return [job_id.decode() for job_id in listed]


def counted(worker: BatchWorker, outcome: str) -> float:
    """Jobs that ended so, by the worker's own metrics."""
    return worker.reporter.metrics.registry.get_sample_value("infill_jobs_ended_total", {"outcome": outcome}) or 0.0


def ends(worker: BatchWorker) -> int:
    """Ends that were made known."""
    return int(worker.connection.llen(keys.ENDED))


def uploads_left(job: Job) -> int:
    return int(job.connection.exists(keys.picture(job.id, "image"), keys.picture(job.id, "mask")))


def attempt(worker: BatchWorker, job: Job) -> float:
    return worker.reporter.store.progress(job.id)["attempt"]


def tiny_model() -> dict[str, Family]:
    return {"tiny": tiny.model("sd", "concat")}
