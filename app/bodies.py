"""Bodies as they arrive: at a bearable rate, in bounded time, and no more bytes at once than there is room for."""

import asyncio
import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from fastapi.exceptions import HTTPException
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.callers import address_of
from app.settings import ApiSettings
from app.shares import Shares
from jobs.errors import RequestTimeout, SpoolFull, Stopping, TooManyUploads

logger = logging.getLogger("infill.api")

STOP_S = 5.0
"""Time for the rest of a body once the process has been asked to stop."""
RETRY_AFTER_S = 2
SPOOL_RETRY_AFTER_S = 5


class Bodies:
    """All bodies that this process reads or holds."""

    def __init__(self, settings: ApiSettings) -> None:
        self.settings = settings
        self.shares = Shares(settings.max_inflight_bytes, settings.caller_share)
        self.stop_at: float | None = None
        self._waiting: set[asyncio.Timeout] = set()

    def stop(self) -> None:
        """The process is about to stop: what has not arrived in ``STOP_S`` is refused."""
        self.stop_at = asyncio.get_running_loop().time() + STOP_S
        for timeout in self._waiting:
            timeout.reschedule(min(self.stop_at, timeout.when() or self.stop_at))

    @contextmanager
    def waiting(self, timeout_s: float) -> Iterator[asyncio.Timeout]:
        """A timeout that ``stop`` brings forward."""
        until = asyncio.get_running_loop().time() + timeout_s
        timeout = asyncio.timeout_at(until if self.stop_at is None else min(until, self.stop_at))
        self._waiting.add(timeout)
        try:
            yield timeout
        finally:
            self._waiting.discard(timeout)


class Body:
    """One request's body.

    Its time runs while it is waited for only, so that nobody pays for a busy service. Each ``client_timeout_s`` has to
    bring as much as ``min_body_rate`` makes of it; a stretch that has brought that ends early, and the next one begins.
    """

    def __init__(self, bodies: Bodies, receive: Receive, caller: str, length: int) -> None:
        self._bodies = bodies
        self._receive = receive
        self._caller = caller
        self._length = length
        self._held = 0
        self._arrived = 0
        self._ended = False
        self._left_s = bodies.settings.body_timeout_s
        self._begin_stretch()

    def _begin_stretch(self) -> None:
        self._stretch_s = self._bodies.settings.client_timeout_s
        self._stretch_bytes = 0

    async def receive(self) -> Message:
        """The next message. Raises RequestTimeout, TooManyUploads, Stopping."""
        if self._ended:
            return await self._receive()
        if not self._arrived and not self._bodies.shares.has_room(self._caller, self._length):
            self._refuse()
        message = await self._next()
        size = len(message.get("body", b""))
        self._arrived += size
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        self.hold(size)
        self._stretch_bytes += size
        if self._stretch_bytes >= self._bodies.settings.min_body_rate * self._bodies.settings.client_timeout_s:
            self._begin_stretch()
        return message

    def hold(self, size_bytes: int) -> None:
        """So many bytes more are held, of the body or fetched for the request. Raises TooManyUploads."""
        if size_bytes and not self._bodies.shares.take(self._caller, size_bytes):
            self._refuse()
        self._held += size_bytes

    async def _next(self) -> Message:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            with self._bodies.waiting(min(self._stretch_s, self._left_s)) as timeout:
                async with timeout:
                    return await self._receive()
        except TimeoutError:
            raise self._too_slow() from None
        finally:
            self._stretch_s -= clock() - began
            self._left_s -= clock() - began

    def _too_slow(self) -> RequestTimeout | Stopping:
        settings = self._bodies.settings
        if self._bodies.stop_at is not None:
            return Stopping("This process stops, and the body has not arrived in time. Send it again.")
        return RequestTimeout(
            f"The body arrives too slowly: less than {settings.min_body_rate} bytes a second over "
            f"{settings.client_timeout_s:g} s, or not within {settings.body_timeout_s:g} s."
        )

    def _refuse(self) -> None:
        raise TooManyUploads("Too many bytes of uploads are on their way. Send it again.", RETRY_AFTER_S)

    def release(self) -> None:
        """What has arrived and was fetched is held no longer."""
        self._bodies.shares.give_back(self._caller, self._held)
        self._held = 0


class BodyLimits:
    """ASGI middleware that gives each request its ``Body``, as ``scope["state"]["body"]``."""

    def __init__(self, app: ASGIApp, bodies: Bodies) -> None:
        self.app = app
        self.bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = Body(self.bodies, receive, address_of(scope), _length(scope))
        scope.setdefault("state", {})["body"] = body
        answering = False

        async def send_on(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        async def receive_on() -> Message:
            try:
                return await body.receive()
            except (RequestTimeout, Stopping, TooManyUploads):
                if answering:
                    return {"type": "http.disconnect"}  # too late for a problem
                raise

        try:
            await self.app(scope, receive_on, send_on)
        finally:
            body.release()


@contextmanager
def arriving() -> Iterator[None]:
    """A body is read and kept on disk inside. Raises HTTPException 400 where its caller leaves, SpoolFull."""
    try:
        yield
    except ClientDisconnect as error:
        raise HTTPException(400, "The caller left before the end of the body.") from error
    except OSError as error:  # of the temporary files
        logger.error("spool_full", extra={"error": errno.errorcode.get(error.errno or 0, type(error).__name__)})
        raise SpoolFull("The upload cannot be kept while it arrives. Send it again.", SPOOL_RETRY_AFTER_S) from error


def discard(file: BinaryIO) -> None:
    """Close a temporary file that is not read any more: where the disk is full, what it still has to write fails."""
    with suppress(OSError):
        file.close()


def _length(scope: Scope) -> int:
    """What ``Content-Length`` says; 0 where it says nothing."""
    given = Headers(scope=scope).get("content-length", "")
    return int(given) if given.isdecimal() and len(given) < 20 else 0
