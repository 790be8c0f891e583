"""Redis clients. The API's gives up fast, so that a caller gets a 503; the worker's rides out a restart.

An address is a URL as redis-py reads it: ``redis://[user:password@]host[:port][/db]``, or ``rediss://`` over TLS, with
redis-py's options after ``?`` (``ssl_ca_certs=/path``). Behind Sentinel two more settings name the sentinels and the
service. User, password, database, TLS and options are then still the URL's; its host is not used.
``sentinel_username`` and ``sentinel_password`` after the ``?`` are for the sentinels, which speak TLS where Redis does.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
from redis import Redis
from redis._parsers import Encoder
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.connection import PythonRespSerializer, parse_url
from redis.exceptions import (
    AskError,
    ClusterError,
    ConnectionError,
    ExecAbortError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)
from redis.retry import Retry
from redis.sentinel import Sentinel

SENTINEL_PORT = 26379
SENTINEL_TIMEOUT_S = 1

PASSING = (
    ConnectionError,  # LOADING and every failed login among them
    TimeoutError,
    OutOfMemoryError,
    ReadOnlyError,
    NoPermissionError,
    ExecAbortError,  # of the transaction alone: where one of its commands is wrong, redis-py raises that one's error
    ClusterError,  # CLUSTERDOWN, MASTERDOWN
    TryAgainError,
    AskError,  # and MOVED
)
"""Errors that are about the server's state, not about the command."""

PASSING_CODES = (
    "BUSY ",
    "MISCONF ",
    "NOREPLICAS ",
    "NOMASTERLINK ",
    "NOTREADY ",
    "REDIRECT ",
    "UNBLOCKED ",
    "UNKILLABLE ",
)
"""How the texts begin of those that redis-py has no class for."""

LARGE_BYTES = 6000
"""What is larger goes to the socket as it is. hiredis copies it, twice: uploads would be in memory three times."""

QUOTES = (" caused error: ", "Transaction discarded because of: ")
"""Behind which a pipeline, or EXEC, quotes the answer."""


@dataclass(frozen=True)
class RedisAddress:
    """Where Redis is: ``url`` alone, or the master of a Sentinel service.

    ``sentinels``: ``host:port,host:port``, the setting INFILL_REDIS_SENTINELS. ``service``: INFILL_REDIS_SERVICE.
    """

    url: str
    sentinels: str | None = None
    service: str | None = None

    def __str__(self) -> str:
        """Without user, password and options, which may be secret."""
        scheme, _, rest = self.url.partition("://")
        host = rest.partition("?")[0].rpartition("@")[2]
        return f"service {self.service} of {self.sentinels}" if self.sentinels else f"{scheme}://{host}"


def connect_api(address: RedisAddress | str) -> Redis:
    """A client that answers or fails within about two seconds. Raises ValueError for an address it cannot read."""
    packer = PythonRespSerializer(LARGE_BYTES, Encoder("utf-8", "strict", decode_responses=False).encode)
    options: dict[str, Any] = {"socket_timeout": 2, "socket_connect_timeout": 2, "command_packer": packer}
    return _connect(address, retry=Retry(NoBackoff(), 1), **options)


def connect_worker(address: RedisAddress | str) -> Redis:
    """A client that tries again for a few seconds; the worker keeps its latents meanwhile. Raises ValueError."""
    retry = Retry(ExponentialBackoff(cap=1.0, base=0.05), 8)
    return _connect(address, socket_connect_timeout=2, retry=retry, health_check_interval=15)


@asynccontextmanager
async def connect_listener(address: RedisAddress | str) -> AsyncIterator[redis.asyncio.Redis]:
    """A client for a subscription. It fails at the first fault, so that its user can look for what it has missed."""
    retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
    options: dict[str, Any] = {"socket_connect_timeout": 2, "retry": retry, "health_check_interval": 5}
    service, url = _read(address)
    if service is None:
        async with redis.asyncio.Redis.from_url(url, **options) as client:
            yield client
        return
    asking = {**service.asking, "retry": retry}
    async with (
        redis.asyncio.sentinel.Sentinel(service.sentinels, sentinel_kwargs=asking) as sentinel,
        sentinel.master_for(service.name, **options | service.options) as client,
    ):
        yield client


class PixelsAway(ConnectionError):
    """The store of pictures (``jobs/pixels.py``), where that is not Redis, does not answer: as if Redis did not."""


def is_away(error: Exception) -> bool:
    """Whether it means that Redis does not answer, or does not serve for now: later the same call may succeed.

    Nothing of the call has been written where it is a ResponseError.
    """
    return isinstance(error, PASSING) or (isinstance(error, ResponseError) and _answer(error).startswith(PASSING_CODES))


def is_full(error: Exception) -> bool:
    """Whether it means that Redis has reached its ``maxmemory``: it still answers, and takes what needs no memory."""
    return isinstance(error, OutOfMemoryError) or (isinstance(error, ExecAbortError) and _answer(error)[:4] == "OOM ")


def _answer(error: Exception) -> str:
    """What Redis said, without what redis-py or EXEC puts before it."""
    text = str(error)
    for quote in QUOTES:
        text = text.rpartition(quote)[2]
    return text


def _connect(address: RedisAddress | str, **options: Any) -> Redis:
    service, url = _read(address)
    if service is None:
        return Redis.from_url(url, **options)
    asking = {**service.asking, "retry": Retry(NoBackoff(), 0)}
    sentinel = Sentinel(service.sentinels, sentinel_kwargs=asking)
    return cast(Redis, sentinel.master_for(service.name, **options | service.options))


def _read(address: RedisAddress | str) -> "tuple[SentinelService | None, str]":
    """The Sentinel service, if the address names one, and the URL. Raises ValueError, which never quotes the URL."""
    address = address if isinstance(address, RedisAddress) else RedisAddress(address)
    if address.url.partition("://")[0].endswith("+sentinel"):
        raise ValueError(
            "INFILL_REDIS_URL: a URL names no sentinels. Set INFILL_REDIS_SENTINELS=host:port,host:port and "
            "INFILL_REDIS_SERVICE=name; INFILL_REDIS_URL=redis://user:password@/0 then has the login and the database."
        )
    if not address.sentinels and not address.service:
        return None, address.url
    return SentinelService.of(address), address.url


@dataclass(frozen=True)
class SentinelService:
    """The arguments of redis-py's ``Sentinel``."""

    sentinels: list[tuple[str, int]]
    name: str
    options: dict[str, Any]
    """For connections to the master."""
    asking: dict[str, Any]
    """For connections to the sentinels."""

    @classmethod
    def of(cls, address: RedisAddress) -> "SentinelService":
        """Raises ValueError."""
        if not address.sentinels or not address.service:
            raise ValueError("INFILL_REDIS_SENTINELS and INFILL_REDIS_SERVICE go together: set both, or neither.")
        options = parse_url(address.url)  # redis-py's own reading of user, password, db and options
        if "path" in options:
            raise ValueError("INFILL_REDIS_URL: a Unix socket has no sentinels. Use redis:// or rediss://.")
        options.pop("host", None)
        options.pop("port", None)
        tls = {"ssl": True} if options.pop("connection_class", None) else {}
        asking = {
            "username": options.pop("sentinel_username", None),
            "password": options.pop("sentinel_password", None),
            "socket_timeout": SENTINEL_TIMEOUT_S,
            "socket_connect_timeout": SENTINEL_TIMEOUT_S,
            **{key: value for key, value in options.items() if key.startswith("ssl_")},
            **tls,
        }
        return cls([_host(one) for one in address.sentinels.split(",")], address.service, options | tls, asking)


def _host(text: str) -> tuple[str, int]:
    """``host``, ``host:port`` or ``[IPv6]:port``. Never quoted in the error: a whole URL may stand there."""
    text = text.strip()
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.netloc != text or "@" in text or " " in text:
        raise ValueError("INFILL_REDIS_SENTINELS: an entry is not host:port. Write host:port,host:port only.")
    return host, port or SENTINEL_PORT
