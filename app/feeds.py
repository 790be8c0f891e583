"""One look at a job for all in this process who follow it: a look costs Redis and a thread, however many listen."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property

from app.notifications import Changes
from jobs.job_view import JobView


@dataclass(frozen=True)
class Seen:
    """A job as it was after its ``number``-th change, counted from 1 by the feed."""

    number: int
    view: JobView

    @cached_property
    def text(self) -> str:
        """The view as JSON, made once for all who listen."""
        return self.view.model_dump_json()

    @cached_property
    def id(self) -> str:
        """The same in every process, for it depends on the view alone."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


class Feed:
    """The latest look at one job; ends with the job's end, with an error, or when nobody follows any more."""

    def __init__(self) -> None:
        self.followers = 0
        self.task: asyncio.Task[None] | None = None
        self._latest: Seen | None = None
        self._error: Exception | None = None
        self._news = asyncio.Event()

    async def newer(self, number: int, timeout_s: float | None) -> Seen | None:
        """The job once it is newer than ``number``; None after ``timeout_s``. Raises what a look raises."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._error is None and (self._latest is None or self._latest.number <= number):
                    await self._news.wait()
        except TimeoutError:
            return None
        if self._error is not None:
            raise self._error
        return self._latest

    def publish(self, view: JobView) -> None:
        if self._latest is None or view != self._latest.view:
            self._latest = Seen(self._latest.number + 1 if self._latest else 1, view)
            self._wake()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Feeds:
    """The feeds of this process.

    Args:
        look: reads one job. Raises JobNotFound and the errors of Redis.
        changes: says when to look.
        poll_s: how often to look should a notice be lost.
    """

    def __init__(self, look: Callable[[str], Awaitable[JobView]], changes: Changes, poll_s: float) -> None:
        self._look = look
        self._changes = changes
        self._poll_s = poll_s
        self._feeds: dict[tuple[str, bool], Feed] = {}

    @asynccontextmanager
    async def follow(self, job_id: str, end_only: bool = False) -> AsyncIterator[Feed]:
        """The job's feed; with ``end_only`` its steps are not looked at, which would cost more than the rest."""
        key = (job_id, end_only)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed()
            feed.task = asyncio.create_task(self._run(key, feed))
        feed.followers += 1
        try:
            yield feed
        finally:
            feed.followers -= 1
            if not feed.followers and feed.task:
                feed.task.cancel()
                self._forget(key, feed)

    async def _run(self, key: tuple[str, bool], feed: Feed) -> None:
        job_id, end_only = key
        try:
            with self._changes.listen(job_id, end_only) as event:
                while True:
                    view = await self._look(job_id)
                    feed.publish(view)
                    if view.status.ended:
                        return
                    await self._changes.wait(event, self._poll_s)
        except Exception as error:
            feed.fail(error)
        finally:
            self._forget(key, feed)

    def _forget(self, key: tuple[str, bool], feed: Feed) -> None:
        if self._feeds.get(key) is feed:
            del self._feeds[key]
