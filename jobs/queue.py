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
from jobs.fairness import QueuedJob, low_begins, may_take, overtaken_by
from jobs.job_index import JobIndex
from jobs.queue_eta import QueueEta
from jobs.quota import Quota
from jobs.room import LIVE, Room
from jobs.schema import InpaintParameters, InputName, MaskReport, Priority
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


@dataclass(frozen=True)
class _Entry:
    """What is written beside a new job, in the transaction that queues it."""

    queued: QueuedJob
    work: Workload | None
    result_bytes: int
    listed: bool
    pixels: int
    deliveries: int
    idempotency: Idempotency | None

    @property
    def key(self) -> str | None:
        return keys.idempotency(self.idempotency.key_digest) if self.idempotency else None


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
        priority: Priority = "normal",
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
        ``priority``: jobs of low priority wait behind all others, and have places and room of their own
        (``low_priority_share``), so that however many there are, no other job is refused for them.

        The pixels are written first, under a new id that no process reads yet; then one optimistic transaction checks
        the idempotency key, the queue's length and the store's room, and enqueues. A lost reply to EXEC is safe: the
        retry finds the job. A key that came before is answered with its job even while the queue is full.

        Raises:
            QuotaExceeded: the caller has as much as it may.
            QueueFull: as many jobs of its priority wait as may, or the caller has its share of their places.
            StoreFull: ``memory_share`` of Redis' memory limit is used, reserved, or would be with this job.
            TooLarge: this job alone would need more than that.
            IdempotencyConflict: the key came before with another request.
        """
        if idempotency and (replay := self.replay(idempotency)):
            return replay
        # a file is the caller's own, and can be as long as it likes; what words name is found later, by the worker
        keep_mask = mask_report.sources not in (["file"], ["prompt"])
        kept_bytes = len(inputs["mask"]) if keep_mask else 0
        self.check_room(wanted=sum(map(len, inputs.values())) + kept_bytes + result_bytes, priority=priority)
        meta: dict[str, Any] = {"mask": mask_report.model_dump(), "approximate": list(approximate), "owner": caller}
        if priority == "low":
            meta["priority"] = priority
        if request_id:
            meta["request_id"] = request_id
        if deliveries:
            meta["deliveries"] = [delivery.model_dump() for delivery in deliveries]
        job, queued = self._new_job(parameters, meta, priority), QueuedJob(caller, priority)
        try:
            self.store.put_inputs(job.id, inputs, keep_mask)
            entry = _Entry(queued, work, result_bytes, listed, pixels, len(deliveries), idempotency)
            submitted = self._enqueue(job, entry)
        except Exception as error:
            with suppress(Exception):
                self.store.drop_submitted(job.id)
            if is_full(error) or isinstance(error, NotStored):
                raise self.room.full() from None
            raise
        if submitted.replayed:
            self.store.drop_submitted(job.id)
        return submitted

    def _new_job(self, parameters: InpaintParameters, meta: dict[str, Any], priority: Priority) -> Job:
        """One of low priority that comes back from its worker goes to the end of the queue."""
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
            retry=Retry(max=settings.max_attempts - 1, enqueue_at_front=priority == "normal"),
        )

    def replay(self, idempotency: Idempotency) -> Submitted | None:
        """The job that an earlier request with this key made; None for a new key. Raises IdempotencyConflict."""
        earlier = cast("bytes | None", self.connection.get(keys.idempotency(idempotency.key_digest)))
        return _replay(earlier, idempotency) if earlier else None

    def check_room(self, caller: str = "", wanted: int = 0, priority: Priority = "normal") -> None:
        """Raise what ``submit`` would if ``caller`` could not submit a job of ``wanted`` bytes now.

        ``submit`` asks again, exactly.
        """
        self._check_places(self._queued(), QueuedJob(caller, priority))
        self.quota.check(caller, pixels=0)
        self.room.check(wanted, priority)

    def _queued(self) -> list[QueuedJob]:
        """The waiting jobs, the next one first."""
        waiting = self.waiting.ids()
        queued = self.waiting.jobs(waiting)
        if not self._is_the_list(self.connection, waiting, low_begins(queued)):
            self.waiting.forget()
            queued = self.waiting.jobs(self.waiting.ids())
        return queued

    def _check_places(self, queued: Sequence[QueuedJob], job: QueuedJob) -> None:
        """Raise QueueFull where no place is free for one more, or the free ones are kept for other callers.

        ``queued``: the waiting jobs.
        """
        settings, low = self.settings, job.priority == "low"
        limit, kind = (settings.low_priority_limit, "jobs of low priority") if low else (settings.queue_limit, "jobs")
        callers = [other.caller for other in queued if other.priority == job.priority]
        own, depth = callers.count(job.caller), len(callers)
        if depth >= limit:
            raise QueueFull(f"{depth} {kind} wait already; at most {limit} may.", self.retry_after_s(job.priority))
        if job.caller and not may_take(own, depth, limit, settings.caller_share):
            raise QueueFull(
                f"{depth} {kind} wait already, {own} of them yours; of {limit} places, some are kept for others.",
                self.retry_after_s(job.priority),
            )

    def _enqueue(self, job: Job, entry: _Entry) -> Submitted:
        now = self.deliveries.now() if entry.deliveries else 0.0
        watched = [self.rq.key, job.key, *self.quota.watched(entry.queued.caller), *([entry.key] if entry.key else [])]
        while True:
            with self.connection.pipeline() as pipeline:
                try:
                    pipeline.watch(*watched)
                    if pipeline.exists(job.key):  # an earlier EXEC went through, only its reply was lost
                        return Submitted(job.id, replayed=False)
                    if entry.idempotency and entry.key and (earlier := pipeline.get(entry.key)):
                        return _replay(cast(bytes, earlier), entry.idempotency)
                    waiting = self.waiting.ids()
                    queued = self.waiting.jobs(waiting)
                    index = overtaken_by(queued, entry.queued)
                    overtaken = None if index is None else waiting[index]
                    if not self._is_the_list(pipeline, waiting, low_begins(queued), overtaken):
                        self.waiting.forget()
                        continue
                    self._check_places(queued, entry.queued)
                    self.room.check_exactly(entry.result_bytes, entry.queued.priority, pipeline)
                    self.quota.check(entry.queued.caller, entry.pixels, pipeline)
                    pipeline.multi()
                    self._write(pipeline, job, entry, overtaken, now)
                    pipeline.execute()
                    self.waiting.added(waiting, index, job.id, entry.queued)
                    self.eta.added(job.id, entry.work, overtaken)
                    return Submitted(job.id, replayed=False)
                except WatchError:
                    continue

    def _write(self, pipeline: Any, job: Job, entry: _Entry, overtaken: str | None, now: float) -> None:
        """The commands of the transaction: the job in its place, and what is kept beside it."""
        caller, ttl_s = entry.queued.caller, self.settings.input_ttl_s
        if entry.idempotency and entry.key:
            value = f"{job.id}:{entry.idempotency.fingerprint}"
            pipeline.set(entry.key, value, ex=self.settings.record_ttl_s)
        self.rq.enqueue_job(job, pipeline=pipeline)
        self.room.reserve(pipeline, job.id, entry.result_bytes)
        self.quota.count(pipeline, caller, job.id, entry.pixels)
        self.deliveries.schedule(pipeline, job.id, entry.deliveries, now)
        if entry.listed:
            self.index.add(pipeline, caller, job.id)
        if caller:
            pipeline.set(keys.caller(job.id), caller, ex=ttl_s)
        if entry.queued.priority == "low":
            pipeline.set(keys.priority(job.id), "low", ex=ttl_s)
        if entry.work:
            pipeline.set(keys.workload(job.id), entry.work.model_dump_json(), ex=ttl_s)
        if overtaken:
            pipeline.lrem(self.rq.key, -1, job.id)
            pipeline.linsert(self.rq.key, "BEFORE", overtaken, job.id)

    def _is_the_list(self, connection: Any, waiting: Sequence[str], low: int, overtaken: str | None = None) -> bool:
        """Whether the copy of the list fits where it matters: in the place of the first job of low priority, by which
        the places are counted, and in that the job to be overtaken is there.
        """
        if low < len(waiting) and connection.lpos(self.rq.key, waiting[low]) != low:
            return False
        return overtaken is None or connection.lpos(self.rq.key, overtaken) is not None

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

    def low_priority_depth(self) -> int:
        """Those of them that are of low priority."""
        return sum(job.priority == "low" for job in self._queued())

    def position(self, job_id: str) -> int | None:
        """Jobs ahead of this one; None once it has left the queue."""
        return cast("int | None", self.connection.lpos(self.rq.key, job_id))

    def retry_after_s(self, priority: Priority = "normal") -> int:
        """Seconds until a refused caller should try again; 1 to 60.

        By then half of the waiting jobs of its priority are predicted to have started. Where their cost is unknown: the
        time in which the queue drains at the measured rate.
        """
        wait_s = self.eta.room_s(priority)
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
