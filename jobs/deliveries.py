"""What is sent out when a job has ended: its images to presigned addresses, and a call of the caller's webhook.

A delivery is due in Redis from the job's submission on, looks again while the job has not ended, and is claimed by one
worker for ``CLAIM_S``: a worker that dies leaves it to another. So each is made at least once. What becomes of it
stands in a hash beside the job.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import Field
from redis import Redis

from jobs import keys
from jobs.schema import Record

Kind = Literal["output", "webhook"]
State = Literal["pending", "delivered", "failed"]

MOST = 9
"""Of a job: an address for each of its images, and a webhook."""
CLAIM_S = 90
"""Longer than any delivery takes."""
LOOK_AGAIN_S = 30
"""Until a job is looked at again whose end nobody has announced."""
RETRIES_S = (5, 30, 300, 1800, 7200)
"""Pauses between two tries; after the last one a delivery has failed."""

_CLAIM = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, member in ipairs(due) do redis.call('ZADD', KEYS[1], ARGV[2], member) end
return due
"""


class Delivery(Record):
    """Where something of a job goes. ``index``: of the image, for an output."""

    kind: Kind
    url: str
    index: int = 0

    @property
    def host(self) -> str:
        """What of the address may be shown: the rest can be a secret."""
        return urlsplit(self.url).hostname or ""


class DeliveryReport(Record):
    """What has become of a delivery."""

    kind: Kind = Field(description="output: an image was sent. webhook: the job's end was announced.")
    index: int = Field(description="Of the image; 0 for a webhook.")
    host: str = Field(description="Where it goes; the rest of the address is not shown.")
    state: State
    attempts: int
    error: str | None = Field(description="Why the latest try failed.")


@dataclass(frozen=True)
class Due:
    """A delivery that this process has claimed."""

    job_id: str
    number: int

    @property
    def member(self) -> str:
        return f"{self.job_id}:{self.number}"


def hasten(pipeline: Any, job_id: str, now: float) -> None:
    """The job has ended: what it has of deliveries is due now."""
    pipeline.zadd(keys.DELIVERIES, {Due(job_id, number).member: now for number in range(MOST)}, xx=True)


class Deliveries:
    """All by Redis' clock.

    Args:
        lifetime_s: of what has become of them.
    """

    def __init__(self, connection: Redis, lifetime_s: int) -> None:
        self.connection = connection
        self.lifetime_s = lifetime_s
        self._claim = connection.register_script(_CLAIM)

    def now(self) -> float:
        seconds, microseconds = self.connection.time()
        return float(seconds + microseconds / 1e6)

    def schedule(self, pipeline: Any, job_id: str, count: int, now: float) -> None:
        """Within the transaction that queues the job."""
        if count:
            pipeline.zadd(keys.DELIVERIES, {Due(job_id, number).member: now + LOOK_AGAIN_S for number in range(count)})

    def due(self, most: int) -> list[Due]:
        """Claim up to ``most``."""
        now = self.now()
        found = cast("list[bytes]", self._claim(keys=[keys.DELIVERIES], args=[now, now + CLAIM_S, most]))
        return [Due(job_id, int(number)) for job_id, _, number in (one.decode().partition(":") for one in found)]

    def put_off(self, due: Due, seconds: float) -> None:
        self.connection.zadd(keys.DELIVERIES, {due.member: self.now() + seconds}, xx=True)

    def forget(self, due: Due) -> None:
        self.connection.zrem(keys.DELIVERIES, due.member)

    def record(self, due: Due, state: State, attempts: int, error: str | None) -> None:
        """What has become of a try: it is over, or due again after a pause."""
        key = keys.deliveries_of(due.job_id)
        with self.connection.pipeline() as pipeline:
            pipeline.hset(key, str(due.number), json.dumps([state, attempts, error]))
            pipeline.expire(key, self.lifetime_s)
            if state == "pending":
                pipeline.zadd(keys.DELIVERIES, {due.member: self.now() + RETRIES_S[attempts - 1]}, xx=True)
            else:
                pipeline.zrem(keys.DELIVERIES, due.member)
            pipeline.execute()

    def attempts(self, due: Due) -> int:
        found = cast("bytes | None", self.connection.hget(keys.deliveries_of(due.job_id), str(due.number)))
        return int(json.loads(found)[1]) if found else 0

    def reports(self, job_id: str, deliveries: Sequence[Delivery]) -> list[DeliveryReport]:
        """Asks Redis only for a job that has any."""
        if not deliveries:
            return []
        found = cast("Mapping[bytes, bytes]", self.connection.hgetall(keys.deliveries_of(job_id)))
        rows = [found.get(str(number).encode()) for number in range(len(deliveries))]
        states = [json.loads(row) if row else ["pending", 0, None] for row in rows]
        return [
            DeliveryReport(kind=one.kind, index=one.index, host=one.host, state=state, attempts=attempts, error=error)
            for one, (state, attempts, error) in zip(deliveries, states, strict=True)
        ]


def deliveries_of(meta: Mapping[str, Any]) -> list[Delivery]:
    """Those of a job, by its ``meta``."""
    return [Delivery.model_validate(one) for one in meta.get("deliveries", ())]
