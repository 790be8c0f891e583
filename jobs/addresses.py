"""Calls to addresses that a caller names: to hosts that the operator allows, and to what their names mean just then.

A name is looked up once, and the connection goes to the very address that was checked, so that an answer of the DNS
that changes meanwhile changes nothing. No redirect is followed, no proxy of the environment is used. What is public is
the standard library's ``ipaddress`` (the registries of IANA), with what IPv6 addresses carry of IPv4 looked into;
connecting is httpcore's. Packages that do both are fewer lines for us and were not kept well enough when looked at.
"""

import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpcore

from jobs.errors import AddressRefused

MAX_URL = 2048
CONNECT_S = 5.0
IDLE_S = 10.0
"""Longest silence while something is sent or received."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")

_URL = re.compile(r"[!-~]+")
_HOST = re.compile(r"(\*|\*\.[a-z0-9.-]+|[a-z0-9.-]+|\[[0-9a-f:.]+\])")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Iterable[str]]


class CallFailed(Exception):
    """Why there is no answer: the end of a sentence that begins with the address."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


@dataclass(frozen=True)
class Target:
    """An address that may be called. ``private_too``: its host is named exactly, so it may lie in a private network."""

    url: str
    host: str
    private_too: bool


class Hosts:
    """What an operator's setting allows: ``*`` (every public host), ``*.example.com``, and hosts named exactly, which
    may also be private and be called by plain http.

    Raises ValueError for a setting that is none.
    """

    def __init__(self, setting: str | None) -> None:
        self.names = [part.strip().lower() for part in (setting or "").split(",") if part.strip()]
        for name in self.names:
            if not _HOST.fullmatch(name):
                raise ValueError(f"{name!r} is no host: write *, *.example.com, example.com, 10.1.2.3 or [fd00::1]")

    def target(self, url: str, field: str) -> Target:
        """Raises AddressRefused, in whose sentence the address is ``field``."""
        parts, host = _parsed(url, field)
        exactly = (f"[{host}]" if ":" in host else host) in self.names
        if not exactly and not any(_matches(host, name) for name in self.names):
            raise AddressRefused(f"{field}: this service calls no address at {host[:100]!r}.")
        if parts.scheme != "https" and not (exactly and parts.scheme == "http"):
            raise AddressRefused(f"{field}: the address must begin with https://.")
        return Target(url, host, exactly)


def _parsed(url: str, field: str) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(url)
        host, _ = (parts.hostname or "").removesuffix("."), parts.port
        (parts.hostname or "").encode("idna")  # as looking it up does: no label is empty or too long
    except ValueError:
        host = ""
    if not host or len(url) > MAX_URL or not _URL.fullmatch(url) or "\\" in url:
        raise AddressRefused(f"{field}: this is no address. Send https://host/path, in at most {MAX_URL} characters.")
    if "@" in parts.netloc or "%" in host:
        raise AddressRefused(f"{field}: the address may have no user name, password or zone in it.")
    return parts, host


def _matches(host: str, name: str) -> bool:
    return name == "*" or (name.startswith("*.") and host.endswith(name[1:]))


def is_public(text: str) -> bool:
    """Whether an IP address belongs to the public internet, and so does any IPv4 address that it stands for."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return all(map(_is_public, _meant(address)))


def _is_public(address: Address) -> bool:
    site_local = isinstance(address, ipaddress.IPv6Address) and address.is_site_local
    return address.is_global and not (address.is_multicast or address.is_reserved or site_local)


def _meant(address: Address) -> list[Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    if address in NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    carried: list[Address] = [part for part in (address.sixtofour, *(address.teredo or ())) if part]
    return [address, *carried]


def resolve(host: str, port: int) -> Iterable[str]:
    """By the system's resolver. Raises OSError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def call(
    target: Target,
    method: str,
    *,
    content: bytes = b"",
    headers: Mapping[str, str] | None = None,
    most_bytes: int,
    within_s: float,
    write: Callable[[bytes], object] | None = None,
    resolver: Resolve = resolve,
) -> Answer:
    """One request, which takes ``within_s`` at most. ``write`` gets the body of a 2xx answer in parts, if given.

    Raises CallFailed: no connection, no answer in time, more than ``most_bytes``. AddressRefused: the name means an
    address that may not be called.
    """
    deadline = time.monotonic() + within_s
    backend = _Checked(target, deadline, resolver)
    timeouts = {"connect": CONNECT_S, "read": IDLE_S, "write": IDLE_S, "pool": CONNECT_S}
    sent: dict[bytes | str, bytes | str] = {"User-Agent": "Infill"}
    sent.update(dict(headers or {}).items())
    if method != "GET":
        sent["Content-Length"] = str(len(content))
    try:
        with (
            httpcore.ConnectionPool(network_backend=backend, max_connections=1) as pool,
            pool.stream(
                method, target.url, headers=sent, content=content or None, extensions={"timeout": timeouts}
            ) as response,
        ):
            keep = bytearray()
            take = write if write and 200 <= response.status < 300 else keep.extend
            _read(response.iter_stream(), take, most_bytes)
            return Answer(response.status, bytes(keep))
    except httpcore.TimeoutException:
        raise CallFailed("did not answer in time") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
        raise CallFailed(f"could not be reached ({type(error).__name__})") from None


def _read(parts: Iterable[bytes], take: Callable[[bytes], object], most_bytes: int) -> None:
    length = 0
    for part in parts:
        length += len(part)
        if length > most_bytes:
            raise CallFailed(f"sent more than {most_bytes} bytes")
        take(part)


class _Checked(httpcore.NetworkBackend):
    """Connects to the addresses that it has checked."""

    def __init__(self, target: Target, deadline: float, resolver: Resolve) -> None:
        self._target, self._deadline, self._resolve = target, deadline, resolver
        self._inner = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.NetworkStream:
        addresses = list(self._resolve(host, port))
        if not self._target.private_too and not all(map(is_public, addresses)):
            raise AddressRefused(f"{self._target.host[:100]!r} is no public address.")
        error: Exception = httpcore.ConnectError("no address")
        for address in addresses:
            try:
                return _Timed(self._inner.connect_tcp(address, port, *args, **options), self._deadline)
            except httpcore.NetworkError as failed:
                error = failed
        raise error


class _Timed(httpcore.NetworkStream):
    """A stream that ends at a deadline, however slowly something comes."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self._inner, self._deadline = inner, deadline

    def _left(self, timeout: float | None, error: type[Exception]) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise error()
        return left if timeout is None else min(left, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._left(timeout, httpcore.ConnectTimeout)
        return _Timed(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
