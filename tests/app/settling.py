"""The far side of the queue for API tests: RQ's own bookkeeping, without a model."""

import io
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from redis import Redis
from rq import SimpleWorker
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

from app.masks import DecodedMask
from jobs import keys
from jobs.queue import JobQueue, parameters_of
from jobs.schema import ImageInfo, JobProblem, JobReport, MaskReport, Timings
from jobs.settings import QueueSettings

TIMINGS = Timings(
    queue=3.0,
    fetch=1.0,
    decode=6.0,
    crop=1.0,
    text_encode=2.0,
    vae_encode=40.0,
    denoise=900.0,
    vae_decode=50.0,
    paste=2.0,
    png=9.0,
    store=1.0,
    wait=0.0,
    total=1015.0,
    steps=20,
    step_p50=45.0,
    batch_mean=1.0,
)


class Settler:
    """Takes jobs up and ends them with RQ's worker methods, as the real worker does at its step boundaries."""

    def __init__(self, queue: JobQueue) -> None:
        self.queue = queue
        self.worker = SimpleWorker([queue.rq], connection=queue.connection, serializer=JSONSerializer)
        self.executions: dict[str, Execution] = {}

    @classmethod
    def connect(cls, connection: Redis, settings: QueueSettings) -> "Settler":
        return cls(JobQueue(connection, settings))

    def start(self, job_id: str) -> Job:
        """Pop the job at the front; it must be this one."""
        job = self.take()
        assert job.id == job_id
        return job

    def take(self) -> Job:
        """Pop the job at the front and start it."""
        found = self.queue.rq.dequeue_any(
            [self.queue.rq], None, connection=self.queue.connection, serializer=JSONSerializer
        )
        assert found is not None
        job: Job = found[0]
        self.executions[job.id] = self.worker.prepare_execution(job)
        self.worker.prepare_job_execution(job, True)
        self.step(job.id, 0, attempt=1)
        return job

    def step(self, job_id: str, step: int, **fields: float | None) -> None:
        with self.queue.connection.pipeline() as pipeline:
            self.queue.store.write_progress(pipeline, job_id, step=step, **fields)
            pipeline.execute()

    def succeed(self, job_id: str, images: list[bytes], *, notify: bool = True, **facts: Any) -> JobReport:
        """``facts``: of the report, where they are not the usual ones."""
        job = self.queue.job(job_id)
        report = self._report(job, images).model_copy(update=facts)
        self.queue.store.put_results(job_id, images)
        self.worker._finalize_success(job, self.queue.rq, self.executions.pop(job_id), report.model_dump(mode="json"))
        if notify:
            self.queue.store.record_end(job_id)
        return report

    def fail(self, job_id: str, problem: JobProblem) -> None:
        self._fail(job_id, problem.model_dump_json())

    def crash(self, job_id: str) -> None:
        """End the job as RQ does when its workers have died often enough."""
        self._fail(job_id, "Moved to FailedJobRegistry, due to AbandonedJobError")

    def _fail(self, job_id: str, text: str) -> None:
        job = self.queue.job(job_id)
        job.retries_left = 0
        execution = self.executions.pop(job_id)
        self.worker.handle_job_failure(job, self.queue.rq, exc_string=text, execution=execution)
        self.queue.store.record_end(job_id)

    def stop(self, job_id: str) -> None:
        """End a running job that was flagged as canceled."""
        assert self.queue.store.canceled([job_id]) == {job_id}
        self.worker._stopped_job_id = job_id
        self._fail(job_id, "")

    def _report(self, job: Job, images: list[bytes]) -> JobReport:
        parameters = parameters_of(job)
        mask = MaskReport.model_validate(job.meta["mask"]).model_copy(update={"changed_outside_mask": 0})
        infos = [ImageInfo(width=64, height=48, content_type="image/png", size_bytes=len(data)) for data in images]
        seeds = [parameters.seed + k for k in range(len(images))]
        return JobReport(seeds=seeds, mask=mask, images=infos, timings=TIMINGS)


def our_keys(connection: Redis) -> set[str]:
    """Keys in Redis, but for those that RQ keeps for its own bookkeeping of queues and workers."""
    names = {key.decode() for key in cast("list[bytes]", connection.keys("*"))}
    return {name for name in names if not name.startswith(("rq:workers", "rq:worker:", "rq:queues"))}


def inputs_of(job_id: str) -> set[str]:
    return {keys.picture(job_id, "image"), keys.picture(job_id, "mask")}


def pixels(mask: DecodedMask) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(mask.png)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        return np.asarray(image)
