"""Batches: many requests as lines of JSON, which the API feeds into the queue by and by.

The lines lie beside the pictures, in chunks. Which of them have become jobs, and how those ended, is written so that
each write may come twice: an API process that is killed, or frozen, at any point loses no line and doubles none.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import Field
from redis import Redis, WatchError

from jobs import keys
from jobs.errors import BatchNotFound, QuotaExceeded
from jobs.job_index import JobIndex
from jobs.schema import JobProblem, Record
from jobs.store import Store

LineStatus = Literal["succeeded", "failed", "canceled", "expired"]
LINE_STATUSES: tuple[LineStatus, ...] = ("succeeded", "failed", "canceled", "expired")
State = Literal["in_progress", "canceling", "completed", "canceled", "expired"]
UNFINISHED: tuple[State, ...] = ("in_progress", "canceling")
UPLOAD_S = 600
"""Time for the lines of a batch to be stored, before its record is."""
SPARE_S = 3600
"""How much longer than they are needed the records of a batch are kept that no process ends."""
BUSY_RETRY_S = 30


class BatchRecord(Record):
    """What never changes. Times are in seconds since 1970.

    ``upload``: under which its lines lie. ``chunks``: the number of the first line in each.
    """

    id: str
    owner: str
    created_at: float
    expires_at: float
    total: int
    upload: str
    chunks: list[int]
    fingerprint: str
    input_file: str | None = None
    """Of a batch that OpenAI's clients made: the id of the file that had its lines."""
    metadata: dict[str, str] = Field({})
    """Theirs, too."""


class BatchJob(Record):
    """A line that has become a job."""

    custom_id: str
    job_id: str


class LineOutcome(Record):
    """How a line ended. ``job`` and ``images`` are addresses, without the host."""

    custom_id: str
    status: LineStatus
    job: str | None = None
    images: list[str] = Field([])
    seeds: list[int] = Field([])
    error: JobProblem | None = None


@dataclass(frozen=True)
class Batch:
    """A batch as it is now. ``fed``: how many of its lines have become jobs, or have ended without one."""

    record: BatchRecord
    state: State
    fed: int
    canceling_at: float | None
    ended_at: float | None

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def closes_as(self) -> Literal["canceled", "expired"] | None:
        """What becomes of the lines that have not ended; None: they are still to be done."""
        if self.state == "canceling":
            return "canceled"
        return "expired" if time.time() >= self.record.expires_at else None


class Batches:
    """Args: most_of_caller: batches of one caller that have not ended."""

    def __init__(self, store: Store, batch_ttl_s: int, most_of_caller: int) -> None:
        self.connection: Redis = store.connection
        self.pixels = store.pixels
        self.most_of_caller = most_of_caller
        self.record_ttl_s = store.settings.record_ttl_s
        self.life_s = batch_ttl_s + self.record_ttl_s + SPARE_S
        self.index = JobIndex(self.connection, self.life_s, keys.batches_of)

    # ---- making one

    def put_chunk(self, upload: str, number: int, lines: bytes) -> None:
        """Before the record, without which it does not stay. Raises NotStored."""
        self.pixels.put(upload, {_chunk(number): lines}, UPLOAD_S)

    def drop_chunks(self, record: BatchRecord) -> None:
        self.pixels.drop(record.upload, _chunks(record))

    def create(self, record: BatchRecord, listed: bool) -> Batch | None:
        """Write the record, after the chunks. None: a batch of this id is there already.

        Raises QuotaExceeded.
        """
        self.pixels.keep(record.upload, _chunks(record), self.life_s)
        key, unfinished = keys.batch(record.id), keys.unfinished_batches_of(record.owner)
        while True:
            with self.connection.pipeline() as pipeline:
                try:
                    pipeline.watch(key, unfinished)
                    if pipeline.exists(key):
                        return None
                    self.check_caller(record.owner, pipeline)
                    pipeline.multi()
                    state = {"record": record.model_dump_json(), "state": "in_progress", "fed": "0"}
                    pipeline.hset(key, mapping=cast("Mapping[Any, Any]", state))
                    pipeline.expire(key, self.life_s)
                    pipeline.zadd(keys.BATCHES, {record.id: record.created_at})
                    pipeline.sadd(unfinished, record.id)
                    pipeline.expire(unfinished, self.life_s)
                    if listed:
                        self.index.add(pipeline, record.owner, record.id)
                    pipeline.execute()
                    return self.find(record.id)
                except WatchError:
                    continue

    def check_caller(self, owner: str, connection: Any = None) -> None:
        """Raise QuotaExceeded if ``owner`` may have no more batches."""
        key = keys.unfinished_batches_of(owner)
        count = (connection or self.connection).scard(key)
        if count >= self.most_of_caller:
            members = cast("set[bytes]", self.connection.smembers(key))
            if gone := [name for name in members if not self.connection.exists(keys.batch(name.decode()))]:
                self.connection.srem(key, *gone)
                count -= len(gone)
        if count >= self.most_of_caller:
            raise QuotaExceeded(
                f"You have {count} batches that have not ended; at most {self.most_of_caller} may at a time.",
                BUSY_RETRY_S,
            )

    # ---- looking

    def find(self, batch_id: str) -> Batch:
        """Raises BatchNotFound."""
        found = cast("dict[bytes, bytes]", self.connection.hgetall(keys.batch(batch_id)))
        if b"record" not in found:
            raise no_batch(batch_id)
        text = {name.decode(): value.decode() for name, value in found.items()}
        return Batch(
            BatchRecord.model_validate_json(text["record"]),
            cast(State, text["state"]),
            int(text["fed"]),
            float(text["canceling_at"]) if "canceling_at" in text else None,
            float(text["ended_at"]) if "ended_at" in text else None,
        )

    def unfinished(self) -> list[str]:
        """Ids of the batches that have not ended, the oldest first."""
        return [name.decode() for name in cast("list[bytes]", self.connection.zrange(keys.BATCHES, 0, -1))]

    def counts(self, batch_id: str) -> dict[LineStatus, int]:
        """Lines by how they ended."""
        with self.connection.pipeline(transaction=False) as pipeline:
            for status in LINE_STATUSES:
                pipeline.bitcount(keys.batch_ended(batch_id, status))
            return dict(zip(LINE_STATUSES, pipeline.execute(), strict=True))

    def outcomes(self, batch_id: str, start: int, stop: int) -> list[LineOutcome]:
        """Of those of the lines ``start`` to ``stop`` - 1 that have ended."""
        names = [str(number) for number in range(start, stop)]
        found = cast("list[bytes | None]", self.connection.hmget(keys.batch_outcomes(batch_id), names))
        return [LineOutcome.model_validate_json(raw) for raw in found if raw]

    def lines(self, record: BatchRecord, chunk: int) -> list[bytes] | None:
        """Of a chunk; None where it is not there any more."""
        (found,) = self.pixels.get(record.upload, [_chunk(chunk)])
        return None if found is None else found.split(b"\n")

    # ---- lines become jobs, and jobs end

    def jobs(self, batch_id: str) -> dict[int, BatchJob]:
        """The lines whose jobs have not ended, as far as anybody has seen."""
        found = cast("dict[bytes, bytes]", self.connection.hgetall(keys.batch_jobs(batch_id)))
        return {int(number): BatchJob.model_validate_json(raw) for number, raw in found.items()}

    def advance(self, batch: Batch, start: int, entries: Sequence[BatchJob | LineOutcome]) -> bool:
        """The next lines, from ``start``, have become jobs or have ended. False: another process has been faster."""
        with self.connection.pipeline() as pipeline:
            try:
                pipeline.watch(keys.batch(batch.id))
                if int(cast("bytes | None", pipeline.hget(keys.batch(batch.id), "fed")) or -1) != start:
                    return False
                pipeline.multi()
                for number, entry in enumerate(entries, start):
                    if isinstance(entry, BatchJob):
                        pipeline.hset(keys.batch_jobs(batch.id), str(number), entry.model_dump_json())
                    else:
                        self._write(pipeline, batch.id, number, entry)
                pipeline.expire(keys.batch_jobs(batch.id), self.life_s)
                pipeline.hset(keys.batch(batch.id), "fed", start + len(entries))
                pipeline.execute()
            except WatchError:
                return False
        self._drop_fed(batch.record, start, start + len(entries))
        return True

    def _drop_fed(self, record: BatchRecord, start: int, stop: int) -> None:
        """Forget the chunks whose last line is among these."""
        ends = [*record.chunks[1:], record.total]
        if done := [_chunk(number) for number, end in enumerate(ends) if start < end <= stop]:
            self.pixels.drop(record.upload, done)

    def end(self, batch_id: str, outcomes: Mapping[int, LineOutcome]) -> None:
        """The jobs of these lines have ended."""
        with self.connection.pipeline() as pipeline:
            for number, outcome in outcomes.items():
                self._write(pipeline, batch_id, number, outcome)
                pipeline.hdel(keys.batch_jobs(batch_id), str(number))
            pipeline.execute()

    def _write(self, pipeline: Any, batch_id: str, number: int, outcome: LineOutcome) -> None:
        pipeline.hset(keys.batch_outcomes(batch_id), str(number), outcome.model_dump_json())
        pipeline.expire(keys.batch_outcomes(batch_id), self.life_s)
        pipeline.setbit(keys.batch_ended(batch_id, outcome.status), number, 1)
        pipeline.expire(keys.batch_ended(batch_id, outcome.status), self.life_s)

    # ---- the batch ends

    def cancel(self, batch_id: str) -> Batch:
        """Have the feeder end it; one that has ended stays as it is. Raises BatchNotFound."""
        self._move(batch_id, "in_progress", "canceling", "canceling_at")
        return self.find(batch_id)

    def finish(self, batch: Batch, state: State) -> None:
        """All lines have ended. Nothing happens where the batch is in another state by now."""
        if self._move(batch.id, batch.state, state, "ended_at"):
            self.tidy(batch)

    def tidy(self, batch: Batch) -> None:
        """It has ended: from now on its records live as long as a job's, and nobody feeds it."""
        self.drop_chunks(batch.record)
        names = [keys.batch(batch.id), keys.batch_jobs(batch.id), keys.batch_outcomes(batch.id)]
        names += [keys.batch_ended(batch.id, status) for status in LINE_STATUSES]
        with self.connection.pipeline() as pipeline:
            for name in names:
                pipeline.expire(name, self.record_ttl_s)
            self.forget(pipeline, batch.id, batch.record.owner)
            pipeline.execute()

    def forget(self, pipeline: Any, batch_id: str, owner: str | None) -> None:
        """It is not to be fed any more."""
        pipeline.zrem(keys.BATCHES, batch_id)
        if owner:
            pipeline.srem(keys.unfinished_batches_of(owner), batch_id)

    def _move(self, batch_id: str, before: State, after: State, when: str) -> bool:
        """False: it is in another state."""
        key = keys.batch(batch_id)
        while True:
            with self.connection.pipeline() as pipeline:
                try:
                    pipeline.watch(key)
                    if pipeline.hget(key, "state") != before.encode():
                        return False
                    pipeline.multi()
                    pipeline.hset(key, mapping={"state": after, when: time.time()})
                    pipeline.execute()
                    return True
                except WatchError:
                    continue


def _chunk(number: int) -> str:
    return f"lines:{number}"


def _chunks(record: BatchRecord) -> list[str]:
    return [_chunk(number) for number in range(len(record.chunks))]


def no_batch(batch_id: str) -> BatchNotFound:
    return BatchNotFound(f"There is no batch {batch_id[:100]!r}, or its record has expired.")
