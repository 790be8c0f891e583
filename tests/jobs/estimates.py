"""Jobs of a known work, and workers of a known speed."""

from typing import Any, cast

from redis import Redis

from jobs.eta import Workload
from jobs.queue import JobQueue
from jobs.schema import InputName, Priority
from jobs.speed import Cost, Speed
from tests.factories import presence, worker_speed
from tests.jobs.submissions import MASK, PARAMETERS, queue_with

SPEED = Speed(area_px=256 * 256, pass_s=0.1, row_s=0.1, codec_s=0.5)
"""Of ten calls: 1.5 s."""


def work(calls: int = 10, model: str = "pocket") -> Workload:
    return Workload(model=model, area_px=256 * 256, calls=calls, rows=1, images=1)


def submit(queue: JobQueue, asked: Workload | None, caller: str = "", priority: Priority = "normal") -> str:
    inputs: dict[InputName, bytes] = {"image": b"image", "mask": b"mask"}
    return queue.submit(PARAMETERS, MASK, inputs, caller=caller, work=asked, priority=priority).job_id


def announce(queue: JobQueue, name: str = "w", left: tuple[float, ...] = (), **told: Any) -> None:
    costs = [Cost(batched_s=seconds, alone_s=seconds) for seconds in left]
    speed = worker_speed(**{"models": {"pocket": [SPEED]}, "left": costs} | told)
    queue.store.announce(presence(name), 10, speed)


def listed_ids(queue: JobQueue) -> list[str]:
    """As RQ's list of waiting jobs has them, without what the queue remembers."""
    waiting = cast("list[bytes]", queue.connection.lrange(queue.rq.key, 0, -1))
    return [job_id.decode() for job_id in waiting]


def fresh(connection: Redis, **settings: object) -> JobQueue:
    """As another API process sees it: without what this one has just computed."""
    return queue_with(connection, **settings)
