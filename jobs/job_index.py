"""Each tenant's jobs, or batches, newest first: a bounded set of ids in Redis beside their records: the truth."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

from jobs import keys

MOST_JOBS = 10_000
"""Of a tenant; the oldest are forgotten first. They stay where they are, and can be asked for by their ids."""


@dataclass(frozen=True)
class Place:
    """Where a job stands in its tenant's list; ``at``: microseconds since 1970."""

    at: int
    job_id: str


class JobIndex:
    """Args: lifetime_s: of a list after its latest job. key_of: a caller -> the key of its list."""

    def __init__(self, connection: Redis, lifetime_s: int, key_of: Callable[[str], str] = keys.jobs_of) -> None:
        self.connection = connection
        self.lifetime_s = lifetime_s
        self._key_of = key_of

    def add(self, pipeline: Any, caller: str, job_id: str) -> None:
        """Within the transaction that queues the job."""
        key = self._key_of(caller)
        pipeline.zadd(key, {job_id: time.time_ns() // 1000})
        pipeline.zremrangebyrank(key, 0, -MOST_JOBS - 1)
        pipeline.expire(key, self.lifetime_s)

    def older(self, caller: str, than: Place | None, most: int) -> list[Place]:
        """Up to ``most`` jobs that stand behind ``than`` in the list; the newest ones without it. None left: []."""
        start: str | int = "+inf" if than is None else than.at
        seen, places = 0, list[Place]()
        while len(places) < most and (found := self._read(caller, start, seen, most + 1)):
            places += [one for one in found if than is None or (one.at, one.job_id) < (than.at, than.job_id)]
            seen += len(found)
        return places[:most]

    def _read(self, caller: str, start: str | int, skipped: int, most: int) -> list[Place]:
        rows = self.connection.zrange(
            *(self._key_of(caller), cast(int, start), cast(int, "-inf")),
            desc=True,
            withscores=True,
            byscore=True,
            offset=skipped,
            num=most,
        )
        return [Place(int(at), job_id.decode()) for job_id, at in cast("list[tuple[bytes, float]]", rows)]

    def forget(self, caller: str, job_ids: Sequence[str]) -> None:
        """Jobs whose records have expired."""
        if job_ids:
            self.connection.zrem(self._key_of(caller), *job_ids)
