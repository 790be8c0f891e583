"""The job that waits at the front of the queue."""

import time

import anyio

from tests.app.settling import Settler

IMAGE = b"\x89PNG image"


async def next_job(settler: Settler) -> str:
    """Its id, once there is one."""
    with anyio.fail_after(5):
        while not (ids := settler.queue.rq.get_job_ids()):
            await anyio.sleep(0.01)
    return str(ids[0])


async def end_next(settler: Settler) -> float:
    """Take it up and finish it; the time at which it ended."""
    job_id = await next_job(settler)
    settler.start(job_id)
    await anyio.sleep(0.05)
    settler.succeed(job_id, [IMAGE])
    return time.monotonic()
