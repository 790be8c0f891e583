"""The RQ queue as a worker sees it: one job popped at a time, and only one that is really waiting."""

from rq import Queue, SimpleWorker, worker_registration
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.job import JobStatus as RqStatus

SEEN_FOR_S = 24 * 3600
"""How long RQ remembers when it first saw a popped job that no worker had begun."""

STUCK_S = 60


class PoppedJobs(IntermediateQueue):
    """RQ's list of popped jobs; how long a job has been in it is measured by Redis' clock."""

    def should_be_cleaned_up(self, job_id: str) -> bool:
        left_s = self.connection.ttl(self.get_first_seen_key(job_id))
        return 0 <= left_s < SEEN_FOR_S - STUCK_S


class InpaintQueue(Queue):
    """RQ's queue, except that a maintenance lock whose holder was killed is free again after 10 s instead of 899."""

    @property
    def intermediate_queue(self) -> PoppedJobs:
        return PoppedJobs(self.key, connection=self.connection)

    def acquire_maintenance_lock(self) -> bool:
        return bool(self.connection.set(self.registry_cleaning_key, 1, nx=True, ex=10))

    def pop(self, timeout_s: int | None) -> Job | None:
        """The next waiting job; ids that are in the queue twice, or canceled, are dropped.

        None if no job is waiting. With ``timeout_s`` it blocks, and raises DequeueTimeout instead.
        """
        while True:
            popped = self.dequeue_any(
                [self],
                timeout_s,
                connection=self.connection,
                job_class=self.job_class,
                serializer=self.serializer,
                death_penalty_class=self.death_penalty_class,
            )
            if popped is None:
                return None
            job, _ = popped
            if job.get_status(refresh=False) == RqStatus.QUEUED:
                return job
            self.log.warning("dropped a second entry of job %s", job.id)
            self.intermediate_queue.remove(job.id)

    def put_back(self, job: Job) -> None:
        """Put a popped job that no worker has begun back into the queue."""
        with self.connection.pipeline() as pipeline:
            pipeline.lrem(self.intermediate_queue_key, 1, job.id)
            self.push_job_id(job.id, pipeline=pipeline, at_front=comes_back_first(job))
            pipeline.execute()

    def clean(self, worker: SimpleWorker, at_s: float, canceled_before: float) -> None:
        """Clean RQ's registries. Jobs whose leases have lapsed are queued again, or fail.

        Args:
            worker: its exception handlers see each lapsed job, and it fails jobs that were popped and never begun.
            at_s: Redis' time.
            canceled_before: canceled jobs that are older leave their registry; RQ never removes them.
        """
        self.started_job_registry.cleanup(at_s, exception_handlers=worker._exc_handlers)
        self.finished_job_registry.cleanup(at_s)
        self.failed_job_registry.cleanup(at_s)
        worker_registration.clean_worker_registry(self)
        self.intermediate_queue.cleanup(worker, self)
        self.connection.zremrangebyscore(self.canceled_job_registry.key, 0, canceled_before)


def comes_back_first(job: Job) -> bool:
    """Whether a job goes to the front of the queue when it comes back, as its submission says (RQ's ``Retry``).

    One of low priority goes to the end: jobs of normal priority may have come meanwhile.
    """
    return bool(job.enqueue_at_front_on_retry)
