"""Bytes, progress and presence in Redis, beside RQ's own records.

RQ is the truth for a job's life; this holds what RQ should not: pixels as raw values with a lifetime, the progress of
a running job, its cancel flag, and which workers live.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import TypeAdapter
from redis import Redis
from redis.exceptions import RedisError

from jobs import keys
from jobs.connection import is_full
from jobs.errors import NotStored
from jobs.lora_layers import Width
from jobs.pace import WorkerPace
from jobs.schema import WorkerPresence
from jobs.settings import QueueSettings

WIDTHS = TypeAdapter(dict[str, Width])
NAMES = TypeAdapter(list[str])

DRAIN_SAMPLE = 64
"""How many ended jobs the measured drain rate looks back on."""


@dataclass(frozen=True)
class Known:
    """What is known of a model since a worker has loaded it: what adapters must fit, and which schedulers do."""

    widths: Mapping[str, Width]
    schedulers: Sequence[str]


class Store:
    """Reads and writes the keys of ``jobs/keys.py``."""

    def __init__(self, connection: Redis, settings: QueueSettings) -> None:
        self.connection = connection
        self.settings = settings

    # ---- pixels

    def put_inputs(self, job_id: str, image: bytes, mask: bytes) -> None:
        ttl = self.settings.input_ttl_s
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.set(keys.image(job_id), image, ex=ttl)
            pipeline.set(keys.mask(job_id), mask, ex=ttl)
            _execute_pixels(pipeline)

    def inputs(self, job_id: str) -> tuple[bytes | None, bytes | None]:
        """Image and mask as put; None for one that has expired."""
        image, mask = cast("list[bytes | None]", self.connection.mget(keys.image(job_id), keys.mask(job_id)))
        return image, mask

    def drop_inputs(self, job_id: str) -> None:
        self.connection.unlink(keys.image(job_id), keys.mask(job_id))

    def put_results(self, job_id: str, images: list[bytes]) -> None:
        """All of them; or none, and raise NotStored, where Redis has no room for all."""
        size_bytes = sum(map(len, images))
        try:
            if self._takes(size_bytes):
                for index, image in enumerate(images):  # one by one: together they would be in memory twice
                    self.connection.set(keys.result(job_id, index), image, ex=self.settings.result_ttl_s)
                return
        except RedisError as error:
            if not is_full(error):
                raise
            self.connection.unlink(*(keys.result(job_id, index) for index in range(len(images))))
        raise NotStored(f"The result's {size_bytes / 1e6:.1f} MB found no room in the store.")

    def result(self, job_id: str, index: int) -> bytes | None:
        return cast("bytes | None", self.connection.get(keys.result(job_id, index)))

    # ---- progress; every writer is a step boundary's pipeline

    def write_progress(self, pipeline: Any, job_id: str, **fields: float | None) -> None:
        """Queue a progress update and its notification on ``pipeline``. A field that is None is not known any more.

        Fields: attempt, step, steps, eta_ms; loading is 1 while the job waits for its worker to load a model.
        """
        known = {name: value for name, value in fields.items() if value is not None}
        pipeline.hset(keys.progress(job_id), mapping=known)
        if unknown := fields.keys() - known.keys():
            pipeline.hdel(keys.progress(job_id), *unknown)
        pipeline.expire(keys.progress(job_id), self.settings.record_ttl_s)
        pipeline.publish(keys.CHANGES, job_id)

    def progress(self, job_id: str) -> dict[str, float]:
        raw = cast("dict[bytes, bytes]", self.connection.hgetall(keys.progress(job_id)))
        return {name.decode(): float(value) for name, value in raw.items()}

    # ---- ends

    def note_end(self, job_id: str) -> None:
        """A job has ended: forget its inputs and reservation, count it for the drain rate, wake who waits for it."""
        ended_at = self._now()
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.unlink(keys.image(job_id), keys.mask(job_id), keys.caller(job_id), keys.work(job_id))
            pipeline.hdel(keys.RESERVED, job_id)
            pipeline.publish(keys.ENDS, job_id)
            pipeline.lpush(keys.ENDED, ended_at)
            pipeline.ltrim(keys.ENDED, 0, DRAIN_SAMPLE - 1)
            pipeline.execute()

    def drain_rate(self) -> float:
        """Jobs ended per second, over the latest DRAIN_SAMPLE of them; 0 while unknown."""
        times = [float(t) for t in cast("list[bytes]", self.connection.lrange(keys.ENDED, 0, -1))]
        if len(times) < 2:
            return 0.0
        return len(times) / max(self._now() - times[-1], 1e-3)

    def _now(self) -> float:
        """By Redis' clock: those of the machines that write and read may differ."""
        seconds, microseconds = self.connection.time()
        return seconds + microseconds / 1e6

    # ---- cancel flags

    def flag_cancel(self, job_id: str) -> None:
        """The flag outlives the job's end: a worker that had just popped a job as it was canceled must still see it."""
        self.connection.set(keys.cancel(job_id), 1, ex=self.settings.record_ttl_s)

    def canceled(self, job_ids: list[str]) -> set[str]:
        """Those of ``job_ids`` whose cancel flag is set."""
        if not job_ids:
            return set()
        flags = cast("list[bytes | None]", self.connection.mget([keys.cancel(job_id) for job_id in job_ids]))
        return {job_id for job_id, flag in zip(job_ids, flags, strict=True) if flag}

    # ---- workers

    def announce(self, presence: WorkerPresence, lease_s: int, pace: WorkerPace | None = None) -> None:
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.sadd(keys.WORKERS, presence.name)
            pipeline.set(keys.presence(presence.name), presence.model_dump_json(), ex=lease_s)
            if pace:
                self.write_pace(pipeline, presence.name, pace, lease_s)
            pipeline.execute()

    def write_pace(self, pipeline: Any, worker_name: str, pace: WorkerPace, lease_s: int) -> None:
        """Queue word of a worker's pace on ``pipeline``.

        It is no part of the presence, which readers of an earlier version would then refuse.
        """
        pipeline.set(keys.pace(worker_name), pace.model_dump_json(), ex=lease_s)

    def paces(self, worker_names: Sequence[str]) -> dict[str, WorkerPace]:
        """The paces of those workers that make theirs known in a way that this version can read."""
        if not worker_names:
            return {}
        found = cast("list[bytes | None]", self.connection.mget([keys.pace(name) for name in worker_names]))
        read = {name: WorkerPace.read(raw) for name, raw in zip(worker_names, found, strict=True)}
        return {name: pace for name, pace in read.items() if pace}

    def withdraw(self, worker_name: str) -> None:
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.srem(keys.WORKERS, worker_name)
            pipeline.delete(keys.presence(worker_name), keys.pace(worker_name))
            pipeline.execute()

    def workers(self) -> list[WorkerPresence]:
        """The workers whose lease has not lapsed; names that have gone silent are forgotten."""
        names = sorted(name.decode() for name in cast("set[bytes]", self.connection.smembers(keys.WORKERS)))
        if not names:
            return []
        found = cast("list[bytes | None]", self.connection.mget([keys.presence(name) for name in names]))
        silent = [name for name, raw in zip(names, found, strict=True) if raw is None]
        if silent:
            self.connection.srem(keys.WORKERS, *silent)
        return [WorkerPresence.model_validate_json(raw) for raw in found if raw is not None]

    # ---- what is known of models since a worker has loaded them; ``source`` is the catalog's

    def put_known(self, source: str, known: Known) -> None:
        self.put_widths(source, known.widths)
        self.put_schedulers(source, known.schedulers)

    def put_widths(self, source: str, widths: Mapping[str, Width]) -> None:
        self.connection.set(keys.widths(source), WIDTHS.dump_json(dict(widths)), ex=self.settings.record_ttl_s)

    def put_schedulers(self, source: str, names: Sequence[str]) -> None:
        self.connection.set(keys.schedulers(source), NAMES.dump_json(list(names)), ex=self.settings.record_ttl_s)

    def keep_known(self, known: Mapping[str, Known]) -> None:
        """Lengthen the lifetime of what is known of these sources; put what Redis has lost once more."""
        with self.connection.pipeline(transaction=False) as pipeline:
            for source in known:
                pipeline.expire(keys.widths(source), self.settings.record_ttl_s)
                pipeline.expire(keys.schedulers(source), self.settings.record_ttl_s)
            kept = cast("list[bool]", pipeline.execute())
        for index, source in enumerate(known):
            if not all(kept[2 * index : 2 * index + 2]):
                self.put_known(source, known[source])

    def widths(self, source: str) -> dict[str, Width] | None:
        """As put; None while no worker has loaded a model from ``source``."""
        raw = cast("bytes | None", self.connection.get(keys.widths(source)))
        return WIDTHS.validate_json(raw) if raw else None

    def schedulers(self, sources: Sequence[str]) -> dict[str, list[str]]:
        """As put, by source; a source that no worker has loaded a model from is left out."""
        found = cast("list[bytes | None]", self.connection.mget([keys.schedulers(source) for source in sources]))
        return {source: NAMES.validate_json(raw) for source, raw in zip(sources, found, strict=True) if raw}

    # ---- room

    def memory_share(self) -> float:
        """Share of Redis' ``maxmemory`` in use; 0 where Redis has no limit."""
        return share_in_use(self.connection.info("memory"))

    def check_writes(self) -> None:
        """Raise Redis' own error where it takes no writes now; no look at its state foresees them all."""
        with self.connection.pipeline() as pipeline:
            pipeline.set(keys.PROBE, 1, ex=60)
            pipeline.delete(keys.PROBE)
            pipeline.execute()

    def _takes(self, size_bytes: int) -> bool:
        """Whether so many more bytes stay below ``maxmemory``; asked first, for the bytes take time to send."""
        memory = self.connection.info("memory")
        limit = int(memory.get("maxmemory", 0))
        return not limit or int(memory["used_memory"]) + size_bytes <= limit


def share_in_use(memory: Mapping[str, Any]) -> float:
    """From the section ``memory`` of Redis' INFO."""
    limit = int(memory.get("maxmemory", 0))
    return int(memory["used_memory"]) / limit if limit else 0.0


def _execute_pixels(pipeline: Any) -> None:
    """Execute, and raise the first error as Redis gave it.

    Left to itself, redis-py quotes the failed command in the error: seconds of work for a picture, and its bytes in the
    error's text.
    """
    for answer in pipeline.execute(raise_on_error=False):
        if isinstance(answer, Exception):
            raise answer
