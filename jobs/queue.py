"""Submitting, cancelling and finding jobs. Pixels go through the store, never through the RQ job."""

import math
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis, WatchError
from rq import Queue, Retry
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.job import JobStatus as RqStatus
from rq.serializers import JSONSerializer
from rq.utils import now, utcformat

from jobs import keys
from jobs.connection import is_full
from jobs.deliveries import Deliveries, Delivery
from jobs.errors import IdempotencyConflict, JobAlreadyFinished, JobNotFound, NotStored, QueueFull
from jobs.eta import Workload
from jobs.fairness import first_overtaken, may_take
from jobs.job_index import JobIndex
from jobs.queue_eta import QueueEta
from jobs.quota import Quota
from jobs.room import LIVE, Room
from jobs.schema import InpaintParameters, InputName, MaskReport
from jobs.settings import QueueSettings
from jobs.store import Store
from jobs.waiting_jobs import WaitingJobs

JOB_FUNCTION = "infill.inpaint"
"""The only function name a worker accepts. It is never imported: the worker runs the job itself."""


@dataclass(frozen=True)
class Idempotency:
    """An ``Idempotency-Key``'s digest, and a fingerprint of the whole request it came with."""

    key_digest: str
    fingerprint: str


@dataclass(frozen=True)
class Submitted:
    job_id: str
    replayed: bool


class JobQueue:
    """The RQ queue with the bounded, idempotent submission of this service."""

    def __init__(self, connection: Redis, settings: QueueSettings) -> None:
        self.connection = connection
        self.settings = settings
        self.store = Store(connection, settings)
        self.rq = Queue(settings.queue_name, connection=connection, serializer=JSONSerializer)
        self.waiting = WaitingJobs(connection, self.rq.key)
        self.eta = QueueEta(connection, self.waiting)
        self.room = Room(self.store, self.rq.name)
        self.deliveries = Deliveries(connection, settings.input_ttl_s + settings.record_ttl_s)
        self.quota = Quota(connection, settings)
        self.index = JobIndex(connection, settings.input_ttl_s + settings.record_ttl_s)

    def submit(
        self,
        parameters: InpaintParameters,
        mask_report: MaskReport,
        inputs: Mapping[InputName, bytes],
        idempotency: Idempotency | None = None,
        caller: str = "",
        work: Workload | None = None,
        approximate: Sequence[str] = (),
        result_bytes: int = 0,
        listed: bool = False,
        pixels: int = 0,
        deliveries: Sequence[Delivery] = (),
        request_id: str = "",
    ) -> Submitted:
        """Accept one job, or raise. Callers take turns and leave room for others (``jobs/fairness.py``); the caller ""
        may take all places.

        ``work`` is what the job will ask of a network; without it there is no ETA for it or for jobs behind it.
        ``approximate``: what it gives up for speed (``jobs/approximations.py``), as its caller can read.
        ``result_bytes``: what its results take at most (``jobs/room.py``); the room is reserved until it has ended.
        ``pixels``: of the results, for the caller's quota (``jobs/quota.py``).
        ``deliveries``: what is sent out when it has ended (``jobs/deliveries.py``).
        ``listed``: whether the caller can ask for a list of its jobs (``jobs/job_index.py``).
        ``request_id``: for the worker's log lines.

        The pixels are written first, under a new id that no process reads yet; then one optimistic transaction checks
        the idempotency key, the queue's length and the store's room, and enqueues. A lost reply to EXEC is safe: the
        retry finds the job. A key that came before is answered with its job even while the queue is full.

        Raises:
            QuotaExceeded: the caller has as much as it may.
            QueueFull: ``queue_limit`` jobs wait already, or the caller has its share of the places.
            StoreFull: ``memory_share`` of Redis' memory limit is used, reserved, or would be with this job.
            TooLarge: this job alone would need more than that.
            IdempotencyConflict: the key came before with another request.
        """
        if idempotency and (replay := self.replay(idempotency)):
            return replay
        keep_mask = mask_report.sources != ["file"]  # a file is the caller's own, and can be as long as it likes
        kept_bytes = len(inputs["mask"]) if keep_mask else 0
        self.check_room(wanted=sum(map(len, inputs.values())) + kept_bytes + result_bytes)
        meta: dict[str, Any] = {"mask": mask_report.model_dump(), "approximate": list(approximate), "owner": caller}
        if request_id:
            meta["request_id"] = request_id
        if deliveries:
            meta["deliveries"] = [delivery.model_dump() for delivery in deliveries]
        job = self._new_job(parameters, meta)
        try:
            self.store.put_inputs(job.id, inputs, keep_mask)
            submitted = self._enqueue(job, idempotency, caller, work, result_bytes, listed, pixels, len(deliveries))
        except Exception as error:
            with suppress(Exception):
                self.store.drop_submitted(job.id)
            if is_full(error) or isinstance(error, NotStored):
                raise self.room.full() from None
            raise
        if submitted.replayed:
            self.store.drop_submitted(job.id)
        return submitted

    def _new_job(self, parameters: InpaintParameters, meta: dict[str, Any]) -> Job:
        settings = self.settings
        return self.rq.create_job(
            JOB_FUNCTION,
            kwargs=parameters.model_dump(),
            meta=meta,
            job_id=uuid.uuid4().hex,
            timeout=settings.job_deadline_s,
            result_ttl=settings.record_ttl_s,
            failure_ttl=settings.record_ttl_s,
            description="inpaint",
            retry=Retry(max=settings.max_attempts - 1, enqueue_at_front=True),
        )

    def replay(self, idempotency: Idempotency) -> Submitted | None:
        """The job that an earlier request with this key made; None for a new key. Raises IdempotencyConflict."""
        earlier = cast("bytes | None", self.connection.get(keys.idempotency(idempotency.key_digest)))
        return _replay(earlier, idempotency) if earlier else None

    def check_room(self, caller: str = "", wanted: int = 0) -> None:
        """Raise what ``submit`` would if ``caller`` could not submit a job of ``wanted`` bytes now.

        ``submit`` asks again, exactly.
        """
        depth = self.depth()
        self._check_depth(depth)
        callers = self.waiting.callers(self.waiting.ids()) if caller and depth else []
        self._check_share(callers, caller)
        self.quota.check(caller, pixels=0)
        self.room.check(wanted)

    def _check_depth(self, depth: int) -> None:
        limit = self.settings.queue_limit
        if depth >= limit:
            raise QueueFull(f"{depth} jobs wait already; at most {limit} may.", self.retry_after_s())

    def _check_share(self, callers: Sequence[str], caller: str) -> None:
        """Raise QueueFull where the free places are kept for others. ``callers``: of the waiting jobs."""
        own, limit = callers.count(caller), self.settings.queue_limit
        if caller and not may_take(own, len(callers), limit, self.settings.caller_share):
            raise QueueFull(
                f"{len(callers)} jobs wait already, {own} of them yours; of {limit} places, some are kept for others.",
                self.retry_after_s(),
            )

    def _enqueue(
        self,
        job: Job,
        idempotency: Idempotency | None,
        caller: str,
        work: Workload | None,
        result_bytes: int,
        listed: bool,
        pixels: int,
        deliveries: int,
    ) -> Submitted:
        idempotency_key = keys.idempotency(idempotency.key_digest) if idempotency else None
        now = self.deliveries.now() if deliveries else 0.0
        watched = [self.rq.key, job.key, *self.quota.watched(caller), *([idempotency_key] if idempotency_key else [])]
        while True:
            with self.connection.pipeline() as pipeline:
                try:
                    pipeline.watch(*watched)
                    if pipeline.exists(job.key):  # an earlier EXEC went through, only its reply was lost
                        return Submitted(job.id, replayed=False)
                    if idempotency and idempotency_key and (earlier := pipeline.get(idempotency_key)):
                        return _replay(cast(bytes, earlier), idempotency)
                    waiting = self.waiting.ids()
                    self._check_depth(len(waiting))
                    self.room.check_exactly(result_bytes, pipeline)
                    callers = self.waiting.callers(waiting)
                    self._check_share(callers, caller)
                    self.quota.check(caller, pixels, pipeline)
                    index = first_overtaken(callers, caller)
                    overtaken = None if index is None else waiting[index]
                    if overtaken and pipeline.lpos(self.rq.key, overtaken) is None:  # the copy was not the list
                        self.waiting.forget()
                        continue
                    pipeline.multi()
                    if idempotency and idempotency_key:
                        value = f"{job.id}:{idempotency.fingerprint}"
                        pipeline.set(idempotency_key, value, ex=self.settings.record_ttl_s)
                    self.rq.enqueue_job(job, pipeline=pipeline)
                    self.room.reserve(pipeline, job.id, result_bytes)
                    self.quota.count(pipeline, caller, job.id, pixels)
                    self.deliveries.schedule(pipeline, job.id, deliveries, now)
                    if listed:
                        self.index.add(pipeline, caller, job.id)
                    if caller:
                        pipeline.set(keys.caller(job.id), caller, ex=self.settings.input_ttl_s)
                    if work:
                        pipeline.set(keys.workload(job.id), work.model_dump_json(), ex=self.settings.input_ttl_s)
                    if overtaken:
                        pipeline.lrem(self.rq.key, -1, job.id)
                        pipeline.linsert(self.rq.key, "BEFORE", overtaken, job.id)
                    pipeline.execute()
                    self.waiting.added(waiting, index, job.id, caller)
                    self.eta.added(job.id, work, overtaken)
                    return Submitted(job.id, replayed=False)
                except WatchError:
                    continue

    def cancel(self, job_id: str) -> None:
        """Cancel a job that is queued, being picked up, or running (then at its next step boundary).

        Cancelling twice is fine. Raises JobNotFound, JobAlreadyFinished.
        """
        job = self.job(job_id)
        while True:
            status = job.get_status(refresh=True)
            if status in (RqStatus.CANCELED, RqStatus.STOPPED):
                return
            if status not in LIVE:
                end = "succeeded" if status == RqStatus.FINISHED else "failed"
                raise JobAlreadyFinished(f"The job has {end}; there is nothing to cancel.")
            self.store.flag_cancel(job_id)
            if status == RqStatus.STARTED or self._cancel_queued(job):
                return

    def _cancel_queued(self, job: Job) -> bool:
        """Take a waiting job out of the queue; False if its status changed meanwhile."""
        with self.connection.pipeline() as pipeline:
            try:
                pipeline.watch(job.key)
                if pipeline.hget(job.key, "status") != RqStatus.QUEUED.encode():
                    return False
                pipeline.multi()
                job.cancel(pipeline=pipeline)
                pipeline.hset(job.key, "ended_at", utcformat(now()))  # RQ leaves it empty
                pipeline.expire(job.key, self.settings.record_ttl_s)  # RQ itself never expires canceled jobs
                pipeline.execute()
            except WatchError:
                return False
        self.waiting.removed(job.id)
        self.store.record_end(job.id)
        return True

    def job(self, job_id: str) -> Job:
        """The RQ job. Raises JobNotFound, also for a job in this Redis that is not one of ours."""
        try:
            job = Job.fetch(job_id, connection=self.connection, serializer=JSONSerializer)
        except (NoSuchJobError, ValueError):
            job = None
        if job is None or job.id != job_id or job.origin != self.rq.name:  # RQ reads "id:execution" as "id"
            raise no_job(job_id)
        return job

    def depth(self) -> int:
        """Jobs that wait."""
        return self.connection.llen(self.rq.key)

    def position(self, job_id: str) -> int | None:
        """Jobs ahead of this one; None once it has left the queue."""
        return cast("int | None", self.connection.lpos(self.rq.key, job_id))

    def retry_after_s(self) -> int:
        """Seconds until a refused caller should try again; 1 to 60.

        By then half of the waiting jobs are predicted to have started. Where their cost is unknown: the time in which
        the queue drains at the measured rate.
        """
        wait_s = self.eta.room_s()
        if wait_s is None:
            rate = self.store.drain_rate()
            wait_s = self.depth() / rate if rate else 5
        return min(60, max(1, math.ceil(wait_s)))


def _replay(earlier: bytes, idempotency: Idempotency) -> Submitted:
    job_id, _, fingerprint = earlier.decode().partition(":")
    if fingerprint != idempotency.fingerprint:
        raise IdempotencyConflict("This Idempotency-Key came before with another request; use a new key.")
    return Submitted(job_id, replayed=True)


def parameters_of(job: Job) -> InpaintParameters:
    """The parameters a job was submitted with. Raises ValidationError or RQ's DeserializationError."""
    return InpaintParameters.model_validate(job.kwargs)


def no_job(job_id: str) -> JobNotFound:
    return JobNotFound(f"There is no job {job_id!r}, or its record has expired.")
