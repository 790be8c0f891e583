"""Redis clients, by one URL. The API's gives up fast, so that a caller gets a 503; the worker's rides out a restart.

::

    redis://[user:password@]host[:port][/db]                                        a server
    redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/db]      the master of a Sentinel service
    rediss://..., rediss+sentinel://...                                             over TLS, the sentinels too

Options follow after ``?``, under redis-py's names (``ssl_ca_certs=/path``). User and password are those of Redis;
``sentinel_username`` and ``sentinel_password`` are for the sentinels.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
from redis import Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.connection import parse_url
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

QUOTES = (" caused error: ", "Transaction discarded because of: ")
"""Behind which a pipeline, or EXEC, quotes the answer."""


def connect_api(url: str) -> Redis:
    """A client that answers or fails within about two seconds."""
    return _connect(url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 1))


def connect_worker(url: str) -> Redis:
    """A client that tries again for a few seconds; the worker keeps its latents meanwhile."""
    retry = Retry(ExponentialBackoff(cap=1.0, base=0.05), 8)
    return _connect(url, socket_connect_timeout=2, retry=retry, health_check_interval=15)


@asynccontextmanager
async def connect_listener(url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A client for a subscription. It fails at the first fault, so that its user knows to look what it has missed."""
    retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
    options: dict[str, Any] = {"socket_connect_timeout": 2, "retry": retry, "health_check_interval": 5}
    if not _names_sentinels(url):
        async with redis.asyncio.Redis.from_url(url, **options) as client:
            yield client
        return
    service = SentinelService.parse(url)
    asking = {**service.asking, "retry": retry}
    async with (
        redis.asyncio.sentinel.Sentinel(service.sentinels, sentinel_kwargs=asking) as sentinel,
        sentinel.master_for(service.name, **options | service.options) as client,
    ):
        yield client


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


def _connect(url: str, **options: Any) -> Redis:
    if not _names_sentinels(url):
        return Redis.from_url(url, **options)
    service = SentinelService.parse(url)
    asking = {**service.asking, "retry": Retry(NoBackoff(), 0)}
    sentinel = Sentinel(service.sentinels, sentinel_kwargs=asking)
    return cast(Redis, sentinel.master_for(service.name, **options | service.options))


def _names_sentinels(url: str) -> bool:
    return url.partition("://")[0].endswith("+sentinel")


@dataclass(frozen=True)
class SentinelService:
    """What a Sentinel URL says."""

    sentinels: list[tuple[str, int]]
    name: str
    options: dict[str, Any]
    """For connections to the master."""
    asking: dict[str, Any]
    """For connections to the sentinels."""

    @classmethod
    def parse(cls, url: str) -> "SentinelService":
        """Raises ValueError, which never quotes the password."""
        scheme, _, rest = url.partition("://")  # urlsplit takes no list of hosts where one is an IPv6 address
        address, _, query = rest.partition("?")
        netloc, _, path = address.partition("/")
        login, at, hosts = netloc.rpartition("@")
        name, _, db = path.strip("/").partition("/")
        if not hosts or not name or (db and not db.isdecimal()):
            raise ValueError(f"{scheme}:// needs host[:port][,host[:port]...]/service[/db] after it.")
        plain = f"{scheme.removesuffix('+sentinel')}://{login}{at}-/{db}?{query}"
        options = parse_url(plain)  # redis-py's own reading of user, password, db and options
        del options["host"]
        tls = {"ssl": True} if options.pop("connection_class", None) else {}
        asking = {
            "username": options.pop("sentinel_username", None),
            "password": options.pop("sentinel_password", None),
            "socket_timeout": SENTINEL_TIMEOUT_S,
            "socket_connect_timeout": SENTINEL_TIMEOUT_S,
            **{key: value for key, value in options.items() if key.startswith("ssl_")},
            **tls,
        }
        return cls([_address(host) for host in hosts.split(",")], unquote(name), options | tls, asking)


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise ValueError("A Sentinel URL has an empty host in its list.")
    return parts.hostname, parts.port or SENTINEL_PORT
