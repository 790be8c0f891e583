"""Holding a call until its job ends: for ``Prefer: wait`` and for the event stream."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
from rq.job import Job

from app.backend import Backend
from app.feeds import Seen
from app.negotiation import wait_of
from jobs.job_view import JobView, view_job, view_of


async def look(backend: Backend, job_id: str) -> JobView:
    """The job as it is. Raises JobNotFound."""
    return await anyio.to_thread.run_sync(view_job, backend.queue, job_id)


async def watch(backend: Backend, job_id: str) -> AsyncIterator[Seen | None]:
    """The job now and after each change, up to its end, to ``max_stream_s`` or to the API's own end.

    None after each ``poll_s`` without a change. A lost notice costs ``poll_s``.
    """
    until, number = time.monotonic() + backend.settings.max_stream_s, 0
    async with backend.feeds.follow(job_id) as feed:
        while (left_s := until - time.monotonic()) > 0 and not backend.changes.closing:
            seen = await feed.newer(number, min(left_s, backend.settings.poll_s))
            yield seen
            if seen and seen.view.status.ended:
                return
            number = seen.number if seen else number


async def wait_for_end(
    backend: Backend, has_left: Callable[[], Awaitable[bool]], job_id: str, wait_s: float
) -> JobView | None:
    """The job when it has ended, or as it is after ``wait_s``; None once the caller has gone (within ``poll_s``)."""
    until, number = time.monotonic() + wait_s, 0
    async with backend.feeds.follow(job_id, end_only=True) as feed:
        while (left_s := until - time.monotonic()) > 0 and not backend.changes.closing:
            seen = await feed.newer(number, min(left_s, backend.settings.poll_s))
            if await has_left():
                return None
            if seen and seen.view.status.ended:
                return seen.view
            number = seen.number if seen else number
    return await look(backend, job_id)


async def wait_if_preferred(
    backend: Backend, has_left: Callable[[], Awaitable[bool]], job: Job, prefer: list[str] | None
) -> tuple[JobView | None, dict[str, str]]:
    """The job now, or after the wait that ``Prefer`` asks for; None once the caller has gone.

    The headers say which wait was applied; empty: none was asked for.
    """
    view = await anyio.to_thread.run_sync(view_of, backend.queue, job)
    wait_s = wait_of(prefer or [], backend.settings.max_wait_s)
    if wait_s is None:
        return view, {}
    applied = {"Preference-Applied": f"wait={wait_s}"}
    if view.status.ended:
        return view, applied
    return await wait_for_end(backend, has_left, job.id, wait_s), applied
