"""Bytes, progress and presence in Redis, beside RQ's own records.

RQ is the truth for a job's life; this holds what RQ should not: pixels as raw values with a lifetime, the progress of
a running job, its cancel flag, and which workers live.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, cast

from redis import Redis

from jobs import keys
from jobs.deliveries import hasten
from jobs.known_models import KnownModels
from jobs.pixels import Pixels, RedisPixels
from jobs.previews import Previews
from jobs.schema import INPUTS, InputName, WorkerPresence
from jobs.settings import QueueSettings
from jobs.speed import WorkerSpeed

DRAIN_SAMPLE = 64
"""How many ended jobs the measured drain rate looks back on."""


@dataclass(frozen=True)
class Flags:
    """Jobs whose callers have canceled them, and jobs of which somebody asks for previews."""

    canceled: set[str]
    previewed: set[str]


class Store:
    """Read and write the keys of ``jobs/keys.py``.

    Args:
        pixels: where pictures lie; without it, in the same Redis.
    """

    def __init__(self, connection: Redis, settings: QueueSettings, pixels: Pixels | None = None) -> None:
        self.connection = connection
        self.pixels: Pixels = pixels or RedisPixels(connection)
        self.settings = settings
        self.previews = Previews(connection, settings.record_ttl_s)
        self.known = KnownModels(connection, settings.record_ttl_s)

    def pipeline(self) -> Any:
        """For several writes in one round trip, without a transaction."""
        return self.connection.pipeline(transaction=False)

    # ---- pixels

    def put_inputs(self, job_id: str, inputs: Mapping[InputName, bytes], keep_mask: bool = False) -> None:
        """``keep_mask``: so that callers can read it as long as the results. Raises NotStored."""
        kept = {keys.USED_MASK: inputs["mask"]} if keep_mask else {}
        pictures = {str(name): data for name, data in inputs.items()} | kept
        self.pixels.put(job_id, pictures, self.settings.input_ttl_s)

    def inputs(self, job_id: str) -> dict[InputName, bytes | None]:
        """As put; None for one that has expired."""
        return dict(zip(INPUTS, self.pixels.get(job_id, INPUTS), strict=True))

    def drop_inputs(self, job_id: str) -> None:
        self.pixels.drop(job_id, INPUTS)

    def drop_submitted(self, job_id: str) -> None:
        """All that ``put_inputs`` has put, of what became no job."""
        self.pixels.drop(job_id, [*INPUTS, keys.USED_MASK])

    def used_mask(self, job_id: str) -> bytes | None:
        """The mask as the worker takes it, if it was to be kept and has not expired."""
        return self.pixels.get(job_id, [keys.USED_MASK])[0]

    def put_results(self, job_id: str, images: list[bytes], found_mask: bytes | None = None) -> None:
        """All of them, and the mask if the worker found it; or none, and raise NotStored, without room for all."""
        named = {keys.result_name(index): image for index, image in enumerate(images)}
        named |= {} if found_mask is None else {keys.USED_MASK: found_mask}
        self.pixels.put(job_id, named, self.settings.result_ttl_s)

    def result(self, job_id: str, index: int) -> bytes | None:
        return self.pixels.get(job_id, [keys.result_name(index)])[0]

    # ---- progress; every writer is a step boundary's pipeline

    def write_progress(self, pipeline: Any, job_id: str, **fields: float | None) -> None:
        """Queue a progress update and its notification on ``pipeline``. A field that is None is not known any more.

        Fields: attempt, step, steps, eta_ms; loading is 1 while the job waits for its worker to load a model;
        preview_step is the latest preview's.
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

    def record_end(self, job_id: str) -> None:
        """A job has ended: forget its inputs and reservation, count it for the drain rate, wake waiting callers."""
        ended_at = self._now()
        self.drop_inputs(job_id)
        self.pixels.keep(job_id, [keys.USED_MASK], self.settings.result_ttl_s)
        caller = cast("bytes | None", self.connection.get(keys.caller(job_id)))
        with self.connection.pipeline(transaction=False) as pipeline:
            if caller:
                pipeline.srem(keys.unfinished_of(caller.decode()), job_id)
            pipeline.unlink(keys.caller(job_id), keys.priority(job_id), keys.workload(job_id))
            pipeline.unlink(keys.preview(job_id), keys.preview_wish(job_id))
            pipeline.hdel(keys.RESERVED, job_id)
            hasten(pipeline, job_id, ended_at)
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

    def flags(self, job_ids: Sequence[str]) -> Flags:
        """Those of ``job_ids`` whose flags are set."""
        if not job_ids:
            return Flags(set(), set())
        named = [flag(job_id) for flag in (keys.cancel, keys.preview_wish) for job_id in job_ids]
        found = cast("list[bytes | None]", self.connection.mget(named))
        canceled, previewed = found[: len(job_ids)], found[len(job_ids) :]
        return Flags(set(compress(job_ids, canceled)), set(compress(job_ids, previewed)))

    def canceled(self, job_ids: Sequence[str]) -> set[str]:
        """Those of ``job_ids`` whose cancel flag is set."""
        return self.flags(job_ids).canceled

    # ---- workers

    def announce(self, presence: WorkerPresence, lease_s: int, speed: WorkerSpeed | None = None) -> None:
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.sadd(keys.WORKERS, presence.name)
            pipeline.set(keys.presence(presence.name), presence.model_dump_json(), ex=lease_s)
            if speed:
                self.write_speed(pipeline, presence.name, speed, lease_s)
            pipeline.execute()

    def write_speed(self, pipeline: Any, worker_name: str, speed: WorkerSpeed, lease_s: int) -> None:
        """Queue a worker's speed on ``pipeline``.

        It is a key of its own: readers of an earlier version would refuse a presence with new fields.
        """
        pipeline.set(keys.speed(worker_name), speed.model_dump_json(), ex=lease_s)

    def speeds(self, worker_names: Sequence[str]) -> dict[str, WorkerSpeed]:
        """The speeds of those workers that make theirs known in a way that this version can read."""
        if not worker_names:
            return {}
        found = cast("list[bytes | None]", self.connection.mget([keys.speed(name) for name in worker_names]))
        read = {name: WorkerSpeed.read(raw) for name, raw in zip(worker_names, found, strict=True)}
        return {name: speed for name, speed in read.items() if speed}

    def withdraw(self, worker_name: str) -> None:
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.srem(keys.WORKERS, worker_name)
            pipeline.delete(keys.presence(worker_name), keys.speed(worker_name))
            pipeline.execute()

    def workers(self) -> list[WorkerPresence]:
        """The workers whose lease has not lapsed; names of those that have gone are removed."""
        names = sorted(name.decode() for name in cast("set[bytes]", self.connection.smembers(keys.WORKERS)))
        if not names:
            return []
        found = cast("list[bytes | None]", self.connection.mget([keys.presence(name) for name in names]))
        silent = [name for name, raw in zip(names, found, strict=True) if raw is None]
        if silent:
            self.connection.srem(keys.WORKERS, *silent)
        return [WorkerPresence.model_validate_json(raw) for raw in found if raw is not None]

    # ---- room

    def memory_share(self) -> float:
        """Share of Redis' ``maxmemory`` in use; 0 where Redis has no limit."""
        return share_in_use(self.connection.info("memory"))

    def check_writes(self) -> None:
        """Raise Redis' own error where it takes no writes now; its INFO does not show every reason."""
        with self.connection.pipeline() as pipeline:
            pipeline.set(keys.PROBE, 1, ex=60)
            pipeline.delete(keys.PROBE)
            pipeline.execute()


def share_in_use(memory: Mapping[str, Any]) -> float:
    """From the section ``memory`` of Redis' INFO."""
    limit = int(memory.get("maxmemory", 0))
    return int(memory["used_memory"]) / limit if limit else 0.0
