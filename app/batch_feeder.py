"""Feeds batches into the queue, a bounded number of jobs of each at a time, in whichever API process has the lease.

Each line becomes a job by the same submission as every other request, under a key of its batch and its number. So when
a process dies between the job and the batch's note of it, the next one finds that job. A process that has lost the
lease unaware does no harm: what it writes was written, or is refused.
"""

import asyncio
import logging
import os
import platform
import time
import uuid
from collections import Counter
from contextlib import ExitStack, suppress
from typing import BinaryIO, cast

import anyio
import anyio.to_thread
from redis.exceptions import RedisError
from starlette.datastructures import UploadFile
from starlette.types import Message

from app.backend import Backend
from app.batch_lines import form_from, read_line
from app.bodies import Body, discard
from app.inpaint_form import INPAINT, InpaintForm
from app.json_bodies import JsonBody
from app.json_form import form_of
from app.outgoing import deliveries
from app.submission import Submission, submit
from jobs import keys
from jobs.batches import Batch, BatchJob, LineOutcome
from jobs.errors import BatchNotFound, FetchFailed, InfillError, JobError, Refused, RequestError, Undecodable
from jobs.job_view import view_job
from jobs.room import ended_of
from jobs.schema import INPUTS, InputName, JobProblem

logger = logging.getLogger("infill.api")

LEASE_S = 5
IDLE_S = 2.0
"""Between two looks where there is no batch, or another process feeds them."""
BUSY_S = 0.5
"""Between two rounds over the batches."""
STOP_S = 5.0
LINES_A_ROUND = 16
"""Of one batch, before the next one has its turn."""
FETCH_TRIES = 3
FETCH_PAUSE_S = 2.0
LONGEST_PAUSE_S = 2.0
"""After a refusal; its ``Retry-After`` is for callers, of whom there are many."""
CLOSED_AT_ONCE = 500


class BatchFeeder:
    """One for each API process; ``run`` until it is cancelled."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.batches = backend.batches
        self._connection = backend.queue.connection
        self._token = f"{platform.node()}:{os.getpid()}:{uuid.uuid4().hex}".encode()
        self._not_before: dict[str, float] = {}
        self._fetch_tries = Counter[tuple[str, int]]()
        self._woken = anyio.Event()
        self._scope = anyio.CancelScope()
        self._held = False
        self._chunk: tuple[str, int, list[bytes] | None] = ("", 0, None)

    async def run(self) -> None:
        with self._scope:
            while True:
                pause_s = IDLE_S
                try:
                    if await anyio.to_thread.run_sync(self._has_lease):
                        await self._round()
                        pause_s = BUSY_S
                except RedisError:
                    pass  # it comes back, and every call says so meanwhile
                with anyio.move_on_after(pause_s):
                    await self._woken.wait()
                self._woken = anyio.Event()

    async def stop(self, running: "asyncio.Task[None]") -> None:
        """What a thread does just now comes to its end first, unless that takes long. Another process goes on."""
        self._scope.cancel()
        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(STOP_S):
                await running
        await anyio.to_thread.run_sync(self._release)

    def wake(self) -> None:
        """A batch has been made in this process: look at once."""
        self._woken.set()

    def _release(self) -> None:
        if not self._held:
            return
        with suppress(RedisError):
            if self._connection.get(keys.BATCH_FEEDER) == self._token:
                self._connection.delete(keys.BATCH_FEEDER)

    def _has_lease(self) -> bool:
        """Take or renew it, where there are batches."""
        self._held = bool(self._connection.zcard(keys.BATCHES)) and self._takes_lease()
        return self._held

    def _takes_lease(self) -> bool:
        if self._connection.set(keys.BATCH_FEEDER, self._token, nx=True, ex=LEASE_S):
            return True
        if self._connection.get(keys.BATCH_FEEDER) != self._token:
            return False
        self._connection.expire(keys.BATCH_FEEDER, LEASE_S)
        return True

    async def _round(self) -> None:
        """Each batch once."""
        ids = await anyio.to_thread.run_sync(self.batches.unfinished)
        self._not_before = {name: at for name, at in self._not_before.items() if name in ids}
        for batch_id in ids:
            if not await anyio.to_thread.run_sync(self._has_lease):
                return
            try:
                await self._tend(await anyio.to_thread.run_sync(self.batches.find, batch_id))
            except BatchNotFound:
                await anyio.to_thread.run_sync(self._forget, batch_id)
            except RedisError:
                raise
            except Exception as error:  # nothing that one batch has in it may end the feeding of the others
                logger.error("batch_feeder_error", extra={"error": type(error).__name__, "request_id": batch_id})

    def _forget(self, batch_id: str) -> None:
        self.batches.forget(self._connection, batch_id, None)

    async def _tend(self, batch: Batch) -> None:
        """Note which jobs have ended, then feed more lines; or bring the batch to its end."""
        if batch.ended_at is not None:  # its feeder died as it had just ended
            await anyio.to_thread.run_sync(self.batches.tidy, batch)
            return
        at_work = await anyio.to_thread.run_sync(self._note_ends, batch)
        if batch.closes_as:
            await anyio.to_thread.run_sync(self._close, batch, at_work)
        elif batch.fed < batch.record.total:
            await self._feed(batch, len(at_work))
        elif not at_work:
            await anyio.to_thread.run_sync(self.batches.finish, batch, "completed")

    def _note_ends(self, batch: Batch) -> dict[int, BatchJob]:
        """Write how the jobs that have ended did; returns the others."""
        jobs = self.batches.jobs(batch.id)
        ended = set(ended_of(self._connection, [job.job_id for job in jobs.values()])) if jobs else set()
        outcomes = {number: self._outcome(job) for number, job in jobs.items() if job.job_id in ended}
        if outcomes:
            self.batches.end(batch.id, outcomes)
        return {number: job for number, job in jobs.items() if number not in outcomes}

    def _outcome(self, line: BatchJob) -> LineOutcome:
        """Of a job that has ended, or whose record is gone."""
        url = f"{self.backend.settings.root_path}/v1/jobs/{line.job_id}"
        try:
            view = view_job(self.backend.queue, line.job_id)
        except (JobError, Undecodable) as error:
            return _failed(line.custom_id, error, url)
        status = view.status.value
        return LineOutcome(
            custom_id=line.custom_id,
            status=status if status in ("succeeded", "canceled") else "failed",
            job=url,
            images=[image.url for image in view.images],
            seeds=view.seeds,
            error=view.error,
        )

    def _close(self, batch: Batch, at_work: dict[int, BatchJob]) -> None:
        """Cancel its jobs, and end the lines that have none; once nothing is left, the batch ends."""
        state = batch.closes_as
        assert state
        for job in at_work.values():
            with suppress(JobError):
                self.backend.queue.cancel(job.job_id)
        number = batch.fed
        while number < batch.record.total:
            stop = min(number + CLOSED_AT_ONCE, batch.record.total)
            names = [self._custom_id(batch, each) for each in range(number, stop)]
            ended = [LineOutcome(custom_id=name, status=state) for name in names]
            if not self.batches.advance(batch, number, ended):
                return
            number = stop
        if not at_work:
            self.batches.finish(batch, state)

    def _custom_id(self, batch: Batch, number: int) -> str:
        try:
            return read_line(self._line(batch, number))[0]
        except InfillError:
            return ""

    async def _feed(self, batch: Batch, at_work: int) -> None:
        """The next lines, while there is room."""
        if time.monotonic() < self._not_before.get(batch.id, 0.0):
            return
        settings = self.backend.settings
        most = settings.batch_jobs
        if settings.caller_jobs:  # half of what the caller may have is left for its other calls
            most = min(most, max(1, settings.caller_jobs // 2))
        for number in range(batch.fed, min(batch.record.total, batch.fed + LINES_A_ROUND, batch.fed + most - at_work)):
            try:
                entry = await self._submitted(batch, number)
            except Refused as refused:
                self._not_before[batch.id] = time.monotonic() + min(refused.retry_after_s, LONGEST_PAUSE_S)
                return
            if entry is None or not await anyio.to_thread.run_sync(self.batches.advance, batch, number, [entry]):
                return
            if not await anyio.to_thread.run_sync(self._has_lease):
                return

    async def _submitted(self, batch: Batch, number: int) -> BatchJob | LineOutcome | None:
        """The job of a line, or why there can be none; None: it is to be tried again later. Raises Refused."""
        custom_id = ""
        try:
            custom_id, fields = read_line(await anyio.to_thread.run_sync(self._line, batch, number))
            return BatchJob(custom_id=custom_id, job_id=await self._submit(batch, number, fields))
        except FetchFailed as error:
            self._fetch_tries[batch.id, number] += 1
            if self._fetch_tries[batch.id, number] < FETCH_TRIES:
                self._not_before[batch.id] = time.monotonic() + FETCH_PAUSE_S
                return None
            del self._fetch_tries[batch.id, number]
            return _failed(custom_id, error)
        except (RequestError, Undecodable) as error:
            return _failed(custom_id, error)
        except (Refused, RedisError):
            raise
        except Exception as error:  # a line that nobody has thought of ends; the batch goes on
            logger.error("batch_line_error", extra={"error": type(error).__name__, "request_id": batch.id})
            return _failed(custom_id, InfillError("An error that was not expected. It has been logged."))

    def _line(self, batch: Batch, number: int) -> bytes:
        """Raises Undecodable where the store has lost it."""
        record = batch.record
        chunk = max(index for index, first in enumerate(record.chunks) if first <= number)
        if self._chunk[:2] != (batch.id, chunk) or self._chunk[2] is None:
            self._chunk = (batch.id, chunk, self.batches.lines(record, chunk))
        lines = self._chunk[2]
        if lines is None or number - record.chunks[chunk] >= len(lines):
            raise Undecodable("The line is not in the store any more.")
        return lines[number - record.chunks[chunk]]

    async def _submit(self, batch: Batch, number: int, fields: dict[str, object]) -> str:
        """The id of the line's job: a new one, or the one that an earlier try has made."""
        backend, owner = self.backend, batch.record.owner
        body = Body(backend.bodies, _nothing, owner, 0)
        fields = fields | {"priority": "low"}
        with ExitStack() as opened:
            opened.callback(body.release)
            form = await anyio.to_thread.run_sync(_form, fields, opened)
            files: dict[InputName, BinaryIO] = {}
            for name in INPUTS:
                sent, url = getattr(form, name), getattr(form, f"{name}_url")
                limit = backend.settings.max_image_bytes if name == "image" else backend.settings.max_mask_bytes
                file = await backend.fetches.sent_or_fetched(name, sent, url, opened, limit, owner, body)
                if file is not None:
                    files[name] = file
            sent_out = deliveries(backend.settings, form.output_url, form.webhook_url, form.n)
            key = f"{batch.id}:{number}"
            submission = Submission(form, files, owner, form.given, key, sent_out, request_id=batch.id)
            return (await submit(backend, submission)).job_id


def _form(fields: dict[str, object], opened: ExitStack) -> InpaintForm:
    """The form that a line is; ``opened`` then closes its files. Raises InvalidField, SpoolFull."""
    values = dict(form_of(JsonBody(fields), INPAINT))
    for value in values.values():
        if isinstance(value, UploadFile):
            opened.callback(discard, value.file)
    return form_from(values)


def _failed(custom_id: str, error: InfillError, url: str | None = None) -> LineOutcome:
    problem = JobProblem(code=error.code, message=str(error))
    return LineOutcome(custom_id=custom_id, status="failed", job=url, error=problem)


async def _nothing() -> Message:
    """There is no request whose body could be read."""
    return cast(Message, {"type": "http.disconnect"})
