"""Hostile callers over sockets: unfinished headers and bodies, idle connections, many streams, many names."""

import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import httpx

from tests.attack.files import SMALL, SMALL_MASK
from tests.factories import multipart

LINGER_S = 3.0
PAIR = multipart(SMALL, SMALL_MASK)


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=5)


def _hold(url: str, count: int, first: bytes, more: Callable[[socket.socket], None] | None = None) -> None:
    """Open ``count`` connections, send ``first``, trickle ``more`` for a while, and leave."""
    held: list[socket.socket] = []
    with suppress(OSError):
        held.extend(_connect(url) for _ in range(count))
    for one in held:
        with suppress(OSError):
            one.sendall(first)
    until = time.monotonic() + LINGER_S
    while time.monotonic() < until:
        if more is not None:
            for one in held:
                with suppress(OSError):
                    more(one)
        time.sleep(0.2)
    for one in held:
        one.close()


def endless_header(url: str) -> None:
    """One request whose header never ends: up to 64 MB of it."""
    with suppress(OSError), _connect(url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ")
        for _ in range(1024):
            connection.sendall(b"x" * 65_536)


def idle_connections(url: str) -> None:
    _hold(url, 400, b"")


def slow_headers(url: str) -> None:
    _hold(url, 100, b"GET /healthz HTTP/1.1\r\nHost: a\r\n", lambda one: one.sendall(b"X: y\r\n"))


BODY = (
    b"POST /v1/inpaint HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b'Content-Length: 30000000\r\n\r\n--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
)


def unfinished_uploads(url: str) -> None:
    _hold(url, 20, BODY + bytes(4_000_000))


def trickling_uploads(url: str) -> None:
    _hold(url, 40, BODY, lambda one: one.sendall(b"x"))


def punycode(url: str) -> None:
    """A charset whose decoder is quadratic."""
    text = b"-" * 1 + b"a" * 60_000
    body = b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n' + text + b"\r\n--b--\r\n"
    for charset in ("punycode", "idna"):
        kind = f"multipart/form-data; boundary=b; charset={charset}"
        response = httpx.post(f"{url}/v1/inpaint", content=body, headers={"Content-Type": kind}, trust_env=False)
        assert 400 <= response.status_code < 500, response.text


def many_streams(url: str) -> None:
    """200 event streams of one job that waits."""
    job = httpx.post(f"{url}/v1/inpaint", files=PAIR, data={"num_inference_steps": "30"}, trust_env=False)
    if job.status_code != 202:
        return
    path = job.headers["Location"]
    _hold(url, 200, f"GET {path}/events HTTP/1.1\r\nHost: a\r\n\r\n".encode())


def many_names(url: str) -> None:
    """A flood of jobs, each under another key and forwarded address."""

    def one(_: int) -> int:
        headers = {"X-API-Key": uuid.uuid4().hex, "X-Forwarded-For": f"10.0.0.{uuid.uuid4().int % 250}"}
        with suppress(httpx.HTTPError):
            return httpx.post(f"{url}/v1/inpaint", files=PAIR, headers=headers, trust_env=False, timeout=20).status_code
        return 0

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(one, range(60)))
    assert set(statuses) <= {0, 202, 429, 503}, statuses


FLOODS: dict[str, Callable[[str], None]] = {
    "endless header": endless_header,
    "idle connections": idle_connections,
    "slow headers": slow_headers,
    "unfinished uploads": unfinished_uploads,
    "trickling uploads": trickling_uploads,
    "charset=punycode": punycode,
    "200 streams": many_streams,
    "60 jobs of 60 names": many_names,
}
