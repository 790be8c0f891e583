"""Addresses that a request names: pictures are fetched from them here; where results go, workers call."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

import anyio
import anyio.from_thread
import anyio.to_thread
from fastapi import UploadFile

from app.bodies import Body, arriving, discard
from app.settings import ApiSettings
from jobs.addresses import CallFailed, Hosts, Target, call
from jobs.deliveries import Delivery
from jobs.errors import AddressRefused, FetchFailed, InvalidField, TooManyUploads

AT_ONCE = 8
OF_ONE_CALLER = 2
FETCH_S = 30.0
MEMORY_BYTES = 2**20
RETRY_AFTER_S = 2


class Fetches:
    """Pictures on their way from addresses to this process: few at once, and fewer of one caller."""

    def __init__(self, settings: ApiSettings) -> None:
        self.hosts = Hosts(settings.input_hosts)
        self._threads = anyio.CapacityLimiter(AT_ONCE)
        self._callers = Counter[str]()

    def target(self, url: str, field: str) -> Target:
        """Raise AddressRefused for an address from which nothing is fetched."""
        if not self.hosts.names:
            raise AddressRefused(f"{field}: this service fetches no pictures. Send the file itself.")
        return self.hosts.target(url, field)

    async def fetch(self, url: str, field: str, most_bytes: int, caller: str, body: Body) -> BinaryIO:
        """A picture as a file, which the caller closes.

        Args:
            field: that names the address.
            body: of the request; it holds the picture's bytes, too.

        Raises:
            AddressRefused, FetchFailed, TooManyUploads, SpoolFull.
        """
        target = self.target(url, field)
        with self._place(caller):
            return await anyio.to_thread.run_sync(_fetched, target, field, most_bytes, body.hold, limiter=self._threads)

    async def sent_or_fetched(
        self, name: str, sent: UploadFile | None, url: str | None, fetched: ExitStack, *place: *tuple[int, str, Body]
    ) -> BinaryIO | None:
        """The picture of the field ``name``, as it was sent or from its address; ``fetched`` then closes it.

        ``place``: of ``fetch``, its last three.

        Raises InvalidField, and what ``fetch`` does.
        """
        if sent and url:
            raise InvalidField(f"{name}, {name}_url: send one of them.")
        if sent or not url:
            return sent.file if sent else None
        file = await self.fetch(url, f"{name}_url", *place)
        fetched.callback(file.close)
        return file

    @contextmanager
    def _place(self, caller: str) -> Iterator[None]:
        full = sum(self._callers.values()) >= AT_ONCE
        if full or self._callers[caller] >= OF_ONE_CALLER:
            raise TooManyUploads("Too many pictures are being fetched. Send it again.", RETRY_AFTER_S)
        self._callers[caller] += 1
        try:
            yield
        finally:
            self._callers[caller] -= 1


def _fetched(target: Target, field: str, most_bytes: int, hold: Callable[[int], None]) -> BinaryIO:
    """In a thread; ``hold`` belongs to the event loop's."""
    file = cast("BinaryIO", SpooledTemporaryFile(max_size=MEMORY_BYTES))  # noqa: SIM115  # the caller closes it

    def keep(part: bytes) -> None:
        anyio.from_thread.run_sync(hold, len(part))
        with arriving():
            file.write(part)

    try:
        answer = call(target, "GET", most_bytes=most_bytes, within_s=FETCH_S, write=keep)
        if not 200 <= answer.status < 300:
            raise FetchFailed(f"{field}: the address answered {answer.status}; redirects are not followed.")
        with arriving():
            file.seek(0)
    except CallFailed as failed:
        discard(file)
        raise FetchFailed(f"{field}: the address {failed}.") from None
    except BaseException:
        discard(file)
        raise
    return file


def deliveries(settings: ApiSettings, output_urls: Sequence[str], webhook_url: str | None, n: int) -> list[Delivery]:
    """What is to be sent out at the job's end. Raises InvalidField, AddressRefused."""
    hosts = Hosts(settings.output_hosts)
    if output_urls and len(output_urls) != n:
        raise InvalidField(f"output_url: {len(output_urls)} addresses for {n} images. Send one for each image.")
    for url in output_urls:
        hosts.target(url, "output_url")
    asked = [Delivery(kind="output", url=url, index=index) for index, url in enumerate(output_urls)]
    if webhook_url:
        if settings.webhook_secret is None:
            raise AddressRefused("webhook_url: this service calls no webhooks.")
        hosts.target(webhook_url, "webhook_url")
        asked.append(Delivery(kind="webhook", url=webhook_url))
    return asked
