"""Holding a call until its job ends: for ``Prefer: wait`` and for the event stream."""

import time
from collections.abc import AsyncIterator

import anyio
from fastapi import Request

from app.service import Service
from app.view import JobView, view_job


async def look(service: Service, job_id: str) -> JobView:
    """The job as it is. Raises JobNotFound."""
    return await anyio.to_thread.run_sync(view_job, service.queue, job_id)


async def watch(
    service: Service, job_id: str, until: float | None = None, end_only: bool = False
) -> AsyncIterator[JobView]:
    """The job now and after each change, up to its end, to ``until`` (by ``time.monotonic``) or to the API's own end.

    With ``end_only`` its steps go by unseen: looking at each of them would cost more than the rest of the call.

    A lost notice costs ``poll_s``. The last view is the latest there is.
    """
    with service.changes.listen(job_id, end_only) as event:
        while True:
            view = await look(service, job_id)
            yield view
            left_s = service.settings.poll_s if until is None else until - time.monotonic()
            if view.status.ended or left_s <= 0 or service.changes.closing:
                return
            await service.changes.wait(event, min(left_s, service.settings.poll_s))


async def wait_for_end(service: Service, request: Request, job_id: str, wait_s: float) -> JobView | None:
    """The job when it has ended, or as it is after ``wait_s``; None once the caller has gone (within ``poll_s``)."""
    async for view in watch(service, job_id, time.monotonic() + wait_s, end_only=True):
        latest = view
        if await request.is_disconnected():
            return None
    return latest
