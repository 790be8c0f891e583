"""One subscription to Redis for the whole process, which wakes the calls that wait for a job here."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis.exceptions import RedisError

from jobs import keys
from jobs.connection import RedisAddress, connect_listener

logger = logging.getLogger("infill.api")

RECONNECT_S = 0.5


@dataclass(frozen=True, eq=False)
class Waiter:
    event: asyncio.Event
    end_only: bool


class Changes:
    """Hands the notices on ``keys.CHANGES`` and ``keys.ENDS`` to local waiters.

    A notice is a hint: it can be lost while Redis restarts, so waiters also look by themselves now and then.
    """

    def __init__(self, redis: RedisAddress | str) -> None:
        self.redis = redis
        self.closing = False
        self._waiters: dict[str, set[Waiter]] = {}

    @contextmanager
    def listen(self, job_id: str, end_only: bool = False) -> Iterator[asyncio.Event]:
        """An event that is set at every change of the job, or only at its end; the waiter clears it."""
        waiter = Waiter(asyncio.Event(), end_only)
        self._waiters.setdefault(job_id, set()).add(waiter)
        try:
            yield waiter.event
        finally:
            waiters = self._waiters[job_id]
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[job_id]

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        """Return at the next change, or after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            pass
        event.clear()

    async def run(self) -> None:
        """Listen until released; comes back by itself after Redis has been away."""
        while not self.closing:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                logger.warning("changes_lost", extra={"error": type(error).__name__})
                await asyncio.sleep(RECONNECT_S)

    async def stop(self, listening: asyncio.Task[None]) -> None:
        """End ``run``. More than one cancel may be needed: the Redis client can swallow one while it connects."""
        self.release()
        while not listening.done():
            listening.cancel()
            await asyncio.wait([listening], timeout=0.2)

    def release(self) -> None:
        """The process is about to stop: every held call answers now with what it knows."""
        self.closing = True
        self._wake_all()

    async def _listen(self) -> None:
        async with (
            connect_listener(self.redis) as client,
            client.pubsub(ignore_subscribe_messages=True) as pubsub,
        ):
            await pubsub.subscribe(keys.CHANGES, keys.ENDS)
            self._wake_all()  # something may have changed while nobody listened
            while not self.closing:
                message = await pubsub.get_message(timeout=5)
                if message and message["type"] == "message":
                    self._wake(message["data"].decode(), ended=message["channel"].decode() == keys.ENDS)

    def _wake(self, job_id: str, ended: bool) -> None:
        for waiter in self._waiters.get(job_id, ()):
            if ended or not waiter.end_only:
                waiter.event.set()

    def _wake_all(self) -> None:
        for job_id in self._waiters:
            self._wake(job_id, ended=True)
