"""Holding a call until its job ends: for ``Prefer: wait`` and for the event stream."""

import time
from collections.abc import AsyncIterator

import anyio
from fastapi import Request

from app.feeds import Seen
from app.service import Service
from app.view import JobView, view_job


async def look(service: Service, job_id: str) -> JobView:
    """The job as it is. Raises JobNotFound."""
    return await anyio.to_thread.run_sync(view_job, service.queue, job_id)


async def watch(service: Service, job_id: str) -> AsyncIterator[Seen]:
    """The job now and after each change, up to its end, to ``max_stream_s`` or to the API's own end.

    A lost notice costs ``poll_s``.
    """
    until, number = time.monotonic() + service.settings.max_stream_s, 0
    async with service.feeds.follow(job_id) as feed:
        while (left_s := until - time.monotonic()) > 0 and not service.changes.closing:
            seen = await feed.newer(number, min(left_s, service.settings.poll_s))
            if seen is None:
                continue
            yield seen
            if seen.view.status.ended:
                return
            number = seen.number


async def wait_for_end(service: Service, request: Request, job_id: str, wait_s: float) -> JobView | None:
    """The job when it has ended, or as it is after ``wait_s``; None once the caller has gone (within ``poll_s``)."""
    until, number = time.monotonic() + wait_s, 0
    async with service.feeds.follow(job_id, end_only=True) as feed:
        while (left_s := until - time.monotonic()) > 0 and not service.changes.closing:
            seen = await feed.newer(number, min(left_s, service.settings.poll_s))
            if await request.is_disconnected():
                return None
            if seen and seen.view.status.ended:
                return seen.view
            number = seen.number if seen else number
    return await look(service, job_id)
