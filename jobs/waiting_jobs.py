"""A copy of RQ's list of waiting jobs, so that a submission does not read the whole list again."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from redis import Redis

from jobs import keys
from jobs.fairness import QueuedJob

FRESH_S = 0.5
"""How old a copy, or an estimate made from it, may be."""


@dataclass(frozen=True)
class Copy:
    """The ids at one moment, the next job first. ``at``: when the list was read, on the monotonic clock."""

    ids: tuple[str, ...]
    at: float

    def now(self, depth: int, head: bytes | None, tail: bytes | None) -> "Copy | None":
        """The list as it is now, if jobs have only been popped since; None if it must be read again.

        Args:
            depth: the list's length now.
            head: its first id now; None if it is empty.
            tail: its last id now.
        """
        popped = len(self.ids) - depth
        if popped < 0 or time.monotonic() - self.at >= FRESH_S:
            return None
        ids = self.ids[popped:]
        if ids and (head != ids[0].encode() or tail != ids[-1].encode()):
            return None
        return Copy(ids, self.at)


class WaitingJobs:
    """The waiting jobs, their callers and priorities, as this process last read them or changed them itself.

    Length, first and last id are compared with Redis at each call; where they do not fit, and after ``FRESH_S`` in any
    case, the list is read again. Unnoticed until then: other processes that added a job in the middle and canceled
    another one. Used by several threads: each call replaces the copy as a whole.

    Args:
        connection: of the API.
        queue_key: the list of RQ's queue.
    """

    def __init__(self, connection: Redis, queue_key: str) -> None:
        self.connection = connection
        self.queue_key = queue_key
        self._copy = Copy((), -math.inf)
        self._jobs: dict[str, QueuedJob] = {}

    def ids(self) -> tuple[str, ...]:
        """The ids, the next job first. After a WATCH on the list they hold until it changes."""
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.llen(self.queue_key)
            pipeline.lindex(self.queue_key, 0)
            pipeline.lindex(self.queue_key, -1)
            depth, head, tail = pipeline.execute()
        self._copy = self._copy.now(depth, head, tail) or self._read()
        return self._copy.ids

    def jobs(self, ids: Sequence[str]) -> list[QueuedJob]:
        """Each job's caller and priority."""
        known = self._jobs
        if unknown := [job_id for job_id in ids if job_id not in known]:
            read = self._look_up(unknown)
            known = {job_id: read[job_id] if job_id in read else known[job_id] for job_id in ids}
            self._jobs = known
        return [known[job_id] for job_id in ids]

    def _look_up(self, ids: Sequence[str]) -> dict[str, QueuedJob]:
        asked = [key(job_id) for key in (keys.caller, keys.priority) for job_id in ids]
        found = cast("list[bytes | None]", self.connection.mget(asked))
        callers, priorities = found[: len(ids)], found[len(ids) :]
        return {
            job_id: QueuedJob((caller or b"").decode(), "low" if priority == b"low" else "normal")
            for job_id, caller, priority in zip(ids, callers, priorities, strict=True)
        }

    def added(self, ids: Sequence[str], index: int | None, job_id: str, job: QueuedJob) -> None:
        """This process has added a job to ``ids``: before the one at ``index``, or at the end."""
        place = len(ids) if index is None else index
        self._copy = Copy((*ids[:place], job_id, *ids[place:]), self._copy.at)
        self._jobs[job_id] = job

    def removed(self, job_id: str) -> None:
        """This process has canceled a waiting job."""
        self._copy = Copy(tuple(other for other in self._copy.ids if other != job_id), self._copy.at)

    def forget(self) -> None:
        """Read the list again at the next call."""
        self._copy = Copy((), -math.inf)

    def _read(self) -> Copy:
        at = time.monotonic()
        ids = cast("list[bytes]", self.connection.lrange(self.queue_key, 0, -1))
        return Copy(tuple(job_id.decode() for job_id in ids), at)
