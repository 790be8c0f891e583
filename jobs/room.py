"""Room for pictures in Redis: what is used, and what accepted jobs have yet to write.

A job's entry in the hash ``keys.RESERVED`` is made by the transaction that queues it; it goes when its end is recorded.
The hash is the truth: there are no counters. An entry whose job ended while no process could record it (its worker
died, or Redis was away, at that moment) is found by the job's own status.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis
from rq.job import Job
from rq.job import JobStatus as RqStatus
from rq.registry import FinishedJobRegistry

from jobs import keys, png_chunks
from jobs.errors import StoreFull, TooLarge
from jobs.file_structure import manifest_bytes
from jobs.outputs import METADATA_BYTES, file_bytes, manifest_room
from jobs.previews import MAX_BYTES as PREVIEW_BYTES
from jobs.schema import InpaintParameters, Priority
from jobs.settings import QueueSettings
from jobs.store import Store

LIVE = {RqStatus.CREATED, RqStatus.QUEUED, RqStatus.STARTED, RqStatus.SCHEDULED, RqStatus.DEFERRED}

AROUND_BYTES = 16 * 1024
"""For each image: its texts and small chunks. Once more: the job's own records."""

JPEG = b"\xff\xd8"
PNG = b"\x89PNG"
PNG_BITS, PNG_COLOUR_TYPE = 24, 25
"""Where a PNG file has them (PNG specification, 11.2.1); types 0 and 4 are grey, 4 and 6 have alpha."""


@dataclass(frozen=True)
class Memory:
    """Bytes in Redis. ``limit``: what pictures may fill it to, a share of ``maxmemory``; infinite where it has none."""

    used: int
    empty: int
    reserved: int
    limit: float

    def has(self, wanted: int, share: float = 1.0) -> bool:
        """Whether there is room for so many bytes more in a share of the limit."""
        return self.used + self.reserved + wanted <= share * self.limit

    def most(self, share: float = 1.0) -> float:
        """Bytes for which an empty Redis would have room."""
        return max(0, share * self.limit - self.empty)


class Room:
    """Checks whether there is room for a job.

    Args:
        queue_name: of the RQ queue, whose registry of finished jobs shows when results expire.
    """

    def __init__(self, store: Store, queue_name: str) -> None:
        self.connection: Redis = store.connection
        self.settings: QueueSettings = store.settings
        self.store = store
        self._finished = FinishedJobRegistry(queue_name, connection=self.connection)

    def memory(self, connection: Any = None) -> Memory:
        """As it is now. ``connection``: a pipeline that watches, else this one's own.

        Reservations are read first: a job that ends in between counts twice rather than not at all.
        """
        connection = connection or self.connection
        reserved = cast("list[bytes]", connection.hvals(keys.RESERVED))
        return _memory(connection.info("memory"), reserved, self.settings.memory_share)

    def check(self, wanted: int, priority: Priority = "normal") -> None:
        """Raise TooLarge for bytes that can never fit, StoreFull for those that do not fit now."""
        memory, share = self.memory(), self._share(priority)
        if wanted > memory.most(share):
            of_low = " for jobs of low priority" if priority == "low" else ""
            raise TooLarge(
                f"image, n: the uploads and results may take {wanted / 1e6:.0f} MB, and the store never has more than "
                f"{memory.most(share) / 1e6:.0f} MB{of_low}. Lower n or send a smaller picture."
            )
        if not memory.has(wanted, share):
            record_forgotten_ends(self.store)
            self.check_exactly(wanted, priority)

    def check_exactly(self, wanted: int, priority: Priority = "normal", connection: Any = None) -> None:
        """Raise StoreFull if so many more bytes do not fit. ``connection``: a pipeline that watches the queue."""
        if not self.memory(connection).has(wanted, self._share(priority)):
            raise self.full()

    def _share(self, priority: Priority) -> float:
        """Of the memory for pictures, what jobs of this priority may fill it to."""
        return self.settings.low_priority_share if priority == "low" else 1.0

    def full(self) -> StoreFull:
        """To be raised."""
        return StoreFull("The store is nearly full; pictures expire with time.", self.retry_after_s())

    def reserve(self, pipeline: Any, job_id: str, size_bytes: int) -> None:
        pipeline.hset(keys.RESERVED, job_id, size_bytes)

    def retry_after_s(self) -> int:
        """Seconds until the next results expire. While accepted jobs run, their ends may make room: 60 at most."""
        bounds = [60] if self.connection.hlen(keys.RESERVED) else []
        if (expiry_s := self._next_expiry_s()) is not None:
            bounds.append(expiry_s)
        return max(1, min(bounds, default=60))

    def _next_expiry_s(self) -> int | None:
        """RQ's registry has the jobs that succeeded by the end of their records, which outlive their results."""
        now = self.connection.time()[0]
        longer_s = self.settings.record_ttl_s - self.settings.result_ttl_s
        first = cast(
            "list[tuple[bytes, float]]",
            self.connection.zrangebyscore(self._finished.key, now + longer_s, "+inf", 0, 1, withscores=True),
        )
        return math.ceil(first[0][1] - longer_s - now) if first else None


def record_forgotten_ends(store: Store) -> None:
    """Record the end of every job that has a reservation and has ended."""
    job_ids = [job_id.decode() for job_id in cast("list[bytes]", store.connection.hkeys(keys.RESERVED))]
    for job_id in ended_of(store.connection, job_ids):
        store.record_end(job_id)


def ended_of(connection: Redis, job_ids: Sequence[str]) -> list[str]:
    """Those of the jobs that have ended, or whose record is gone."""
    with connection.pipeline(transaction=False) as pipeline:
        for job_id in job_ids:
            pipeline.hget(Job.key_for(job_id), "status")
        statuses = cast("list[bytes | None]", pipeline.execute())
    return [
        job_id
        for job_id, status in zip(job_ids, statuses, strict=True)
        if status is None or status.decode() not in LIVE
    ]


def _memory(info: Mapping[str, Any], reserved: list[bytes], share: float) -> Memory:
    most = int(info.get("maxmemory", 0))
    return Memory(
        used=int(info["used_memory"]),
        empty=int(info.get("used_memory_startup", 0)),
        reserved=sum(map(int, reserved)),
        limit=share * most if most else math.inf,
    )


def results_at_most(parameters: InpaintParameters, image: bytes, size: tuple[int, int]) -> int:
    """The bytes that a request's results take at most, and a preview beside them.

    Args:
        image: the upload; its colour profile is carried to the results.
        size: its width and height.
    """
    stated = png_chunks.appearance(image)
    channels = _channels(image, b"tRNS" in stated, parameters.output_color == "rgb")
    bits = 16 if parameters.bit_depth == "keep" and _may_have_16_bits(image) else 8
    pixels = file_bytes(parameters.output_format, parameters.output_quality, size, channels, bits)
    carried = sum(map(len, stated.values())) if image[:4] == PNG else min(len(image), png_chunks.MAX_PROFILE_BYTES)
    metadata = 0 if parameters.metadata == "strip" else 2 * METADATA_BYTES
    manifests = manifest_room(manifest_bytes(image))
    image_bytes = pixels + carried + carried // 100 + metadata + manifests + AROUND_BYTES
    return parameters.n * image_bytes + AROUND_BYTES + PREVIEW_BYTES


def _may_have_16_bits(image: bytes) -> bool:
    if image[:4] == PNG:
        return image[PNG_BITS] == 16
    return image[:2] != JPEG


def _channels(image: bytes, transparent: bool, coloured: bool) -> int:
    """Of the results, at most."""
    if image[:2] == JPEG:
        return 3
    if image[:4] != PNG:
        return 4
    colour_type = image[PNG_COLOUR_TYPE]
    grey = colour_type in (0, 4) and not coloured
    return (1 if grey else 3) + (transparent or colour_type in (4, 6))
