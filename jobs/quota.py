"""What one caller may have: unfinished jobs at a time, and megapixels of results a day. Checked at submission."""

import time
from typing import Any, cast

from redis import Redis

from jobs import keys
from jobs.errors import QuotaExceeded
from jobs.room import ended_of
from jobs.settings import QueueSettings

DAY_S = 86_400
BUSY_RETRY_S = 5


class Quota:
    """Limits of 0 limit nothing, and nothing is asked or counted for them. Days are those of UTC.

    A caller's unfinished jobs are a set in Redis: the transaction that queues a job adds it, and the record of its end
    removes it. Where the set is full, members whose job has ended or vanished without a record are removed first.
    """

    def __init__(self, connection: Redis, settings: QueueSettings) -> None:
        self.connection = connection
        self.jobs, self.pixels = settings.caller_jobs, settings.caller_megapixels_per_day * 1_000_000
        self._lifetime_s = settings.input_ttl_s

    def watched(self, caller: str) -> list[str]:
        """Keys that must not change between ``check`` and ``count``, beside the queue's list.

        A caller's set grows with that list only; that it shrinks meanwhile does no harm.
        """
        return [_pixels_key(caller)] if self.pixels and caller else []

    def check(self, caller: str, pixels: int, connection: Any = None) -> None:
        """Raise QuotaExceeded for one job more, of so many pixels. ``connection``: a pipeline that watches."""
        connection = connection or self.connection
        if not caller:
            return
        if self.jobs and connection.scard(keys.unfinished_of(caller)) >= self.jobs:
            unfinished = self._unfinished(caller)
            if unfinished >= self.jobs:
                raise QuotaExceeded(
                    f"You have {unfinished} jobs that wait or run; at most {self.jobs} may at a time.", BUSY_RETRY_S
                )
        if self.pixels:
            used = int(connection.get(_pixels_key(caller)) or 0)
            if used + pixels > self.pixels:
                raise QuotaExceeded(
                    f"This job would come to {pixels / 1e6:.1f} megapixels, and {used / 1e6:.1f} of the "
                    f"{self.pixels / 1e6:.0f} that you may have a day are used.",
                    _left_of_day_s(),
                )

    def _unfinished(self, caller: str) -> int:
        """How many there are, without those that have ended or vanished: they are forgotten."""
        key = keys.unfinished_of(caller)
        members = [member.decode() for member in cast("set[bytes]", self.connection.smembers(key))]
        ended = ended_of(self.connection, members)
        if ended:
            self.connection.srem(key, *ended)
        return len(members) - len(ended)

    def count(self, pipeline: Any, caller: str, job_id: str, pixels: int) -> None:
        """Within the transaction that queues the job."""
        if self.jobs and caller:
            pipeline.sadd(keys.unfinished_of(caller), job_id)
            pipeline.expire(keys.unfinished_of(caller), self._lifetime_s)
        if self.pixels and caller:
            pipeline.incrby(_pixels_key(caller), pixels)
            pipeline.expire(_pixels_key(caller), DAY_S)


def _pixels_key(caller: str) -> str:
    return keys.pixels_of(caller, int(time.time() // DAY_S))


def _left_of_day_s() -> int:
    return DAY_S - int(time.time()) % DAY_S
