"""Submitting, cancelling and finding jobs. Pixels go through the store, never through the RQ job."""

import math
import uuid
from collections.abc import Sequence
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
from jobs.errors import IdempotencyConflict, JobAlreadyFinished, JobNotFound, QueueFull
from jobs.fairness import first_overtaken, may_take
from jobs.outlook import Outlook
from jobs.room import LIVE, Room
from jobs.schema import InpaintParameters, MaskReport
from jobs.settings import QueueSettings
from jobs.store import Store
from jobs.work import Work

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
        self.outlook = Outlook(connection, self.rq.key)
        self.room = Room(self.store, self.rq.name)

    def submit(
        self,
        parameters: InpaintParameters,
        mask_report: MaskReport,
        image: bytes,
        mask: bytes,
        idempotency: Idempotency | None = None,
        caller: str = "",
        work: Work | None = None,
        approximate: Sequence[str] = (),
        result_bytes: int = 0,
    ) -> Submitted:
        """Accept one job, or raise. Callers take turns and leave room for others (``jobs/fairness.py``); "" stands for
        nobody in particular, who may take all places.

        ``work`` is what the job will ask of a network; without it nothing is foretold of it and of those behind it.
        ``approximate``: what it gives up for speed (``jobs/approximations.py``), as its callers are told.
        ``result_bytes``: what its results take at most (``jobs/room.py``); the room is reserved until it has ended.

        The pixels are written first, under a fresh id that nobody reads yet; then one optimistic transaction checks
        the idempotency key, the queue's length and the store's room, and enqueues. A lost reply to EXEC is safe: the
        retry finds the job. A key that came before is answered with its job even while the queue is full.

        Raises:
            QueueFull: ``queue_limit`` jobs wait already, or the caller has his share of the places.
            StoreFull: ``memory_share`` of Redis' memory limit is used, reserved, or would be with this job.
            TooLarge: this job alone would need more than that.
            IdempotencyConflict: the key came before with another request.
        """
        if idempotency and (replay := self.replay(idempotency)):
            return replay
        self.check_room(wanted=len(image) + len(mask) + result_bytes)
        job = self._new_job(parameters, {"mask": mask_report.model_dump(), "approximate": list(approximate)})
        try:
            self.store.put_inputs(job.id, image, mask)
            submitted = self._enqueue(job, idempotency, caller, work, result_bytes)
        except Exception as error:
            with suppress(Exception):
                self.store.drop_inputs(job.id)
            if is_full(error):
                raise self.room.full() from None
            raise
        if submitted.replayed:
            self.store.drop_inputs(job.id)
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
        """Raise QueueFull, StoreFull or TooLarge if ``caller`` could not submit a job of ``wanted`` bytes now.

        ``submit`` asks again, exactly.
        """
        depth = self.depth()
        self._check_depth(depth)
        if caller and depth:
            waiting = cast("list[bytes]", self.connection.lrange(self.rq.key, 0, -1))
            self._check_share(self._callers(waiting), caller)
        self.room.check(wanted)

    def _check_depth(self, depth: int) -> None:
        limit = self.settings.queue_limit
        if depth >= limit:
            raise QueueFull(f"{depth} jobs wait already; at most {limit} may.", self.retry_after_s())

    def _check_share(self, callers: Sequence[str], caller: str) -> None:
        """Raise QueueFull where a caller has to leave what is free to others; ``callers``: of the waiting jobs."""
        own, limit = callers.count(caller), self.settings.queue_limit
        if caller and not may_take(own, len(callers), limit, self.settings.caller_share):
            raise QueueFull(
                f"{len(callers)} jobs wait already, {own} of them yours; of {limit} places, some are kept for others.",
                self.retry_after_s(),
            )

    def _enqueue(
        self, job: Job, idempotency: Idempotency | None, caller: str, work: Work | None, result_bytes: int
    ) -> Submitted:
        idempotency_key = keys.idempotency(idempotency.key_digest) if idempotency else None
        watched = [self.rq.key, job.key, *([idempotency_key] if idempotency_key else [])]
        while True:
            with self.connection.pipeline() as pipeline:
                try:
                    pipeline.watch(*watched)
                    if pipeline.exists(job.key):  # an earlier EXEC went through, only its reply was lost
                        return Submitted(job.id, replayed=False)
                    if idempotency and idempotency_key and (earlier := pipeline.get(idempotency_key)):
                        return _replay(cast(bytes, earlier), idempotency)
                    waiting = cast("list[bytes]", pipeline.lrange(self.rq.key, 0, -1))
                    self._check_depth(len(waiting))
                    self.room.check_exactly(result_bytes, pipeline)
                    callers = self._callers(waiting)
                    self._check_share(callers, caller)
                    index = first_overtaken(callers, caller)
                    overtaken = None if index is None else waiting[index].decode()
                    pipeline.multi()
                    if idempotency and idempotency_key:
                        value = f"{job.id}:{idempotency.fingerprint}"
                        pipeline.set(idempotency_key, value, ex=self.settings.record_ttl_s)
                    self.rq.enqueue_job(job, pipeline=pipeline)
                    self.room.reserve(pipeline, job.id, result_bytes)
                    if caller:
                        pipeline.set(keys.caller(job.id), caller, ex=self.settings.input_ttl_s)
                    if work:
                        pipeline.set(keys.work(job.id), work.model_dump_json(), ex=self.settings.input_ttl_s)
                    if overtaken:
                        pipeline.lrem(self.rq.key, -1, job.id)
                        pipeline.linsert(self.rq.key, "BEFORE", overtaken, job.id)
                    pipeline.execute()
                    return Submitted(job.id, replayed=False)
                except WatchError:
                    continue

    def _callers(self, waiting: Sequence[bytes]) -> list[str]:
        """Whose the waiting jobs are."""
        if not waiting:
            return []
        found = cast("list[bytes | None]", self.connection.mget([keys.caller(job_id.decode()) for job_id in waiting]))
        return [(caller or b"").decode() for caller in found]

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
        self.store.note_end(job.id)
        return True

    def job(self, job_id: str) -> Job:
        """The RQ job. Raises JobNotFound, also for a job in this Redis that is not one of ours."""
        try:
            job = Job.fetch(job_id, connection=self.connection, serializer=JSONSerializer)
        except (NoSuchJobError, ValueError):
            job = None
        if job is None or job.id != job_id or job.origin != self.rq.name:  # RQ reads "id:execution" as "id"
            raise JobNotFound(f"There is no job {job_id!r}, or its record has expired.")
        return job

    def depth(self) -> int:
        """Jobs that wait."""
        return self.connection.llen(self.rq.key)

    def position(self, job_id: str) -> int | None:
        """Jobs ahead of this one; None once it has left the queue."""
        return cast("int | None", self.connection.lpos(self.rq.key, job_id))

    def retry_after_s(self) -> int:
        """Seconds after which a refused caller does well to come again; 1 to 60.

        Half of the waiting jobs are then predicted to have been taken up. Where their cost is not known: the queue has
        drained at the measured rate.
        """
        wait_s = self.outlook.room_s()
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
