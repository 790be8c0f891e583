"""A real launcher, started as a process, and a look at the processes it has started."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from redis import Redis

from jobs import keys

START_S = 180.0


def eventually(holds: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait until ``holds`` is true; fail with ``what`` otherwise."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def lives(pid: int) -> bool:
    """Whether the process runs; one that is dead but unburied (a zombie) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> dict[int, str]:
    """Process ids and command lines of the direct children."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = stat.with_name("cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended meanwhile
            continue
        if parent == pid:
            found[int(stat.parent.name)] = command
    return found


def environment_of(pid: int) -> dict[str, str]:
    pairs = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return dict(pair.split("=", 1) for pair in pairs)


class Launcher:
    """``python -m launch ...`` with its output in a file."""

    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        self.folder = folder
        self.output = folder / "output.txt"
        self.children: dict[int, str] = {}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("INFILL_")}
        with self.output.open("wb") as output:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "launch", *arguments],
                env={**clean, "INFILL_VAR_DIR": str(folder / "var"), **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def said(self) -> str:
        return self.output.read_text()

    def wait_for(self, text: str, timeout_s: float = START_S) -> None:
        eventually(
            lambda: text in self.said or self._popen.poll() is not None, timeout_s, f"no {text!r} in:\n{self.said}"
        )
        assert text in self.said, f"ended without {text!r}:\n{self.said}"
        self.children |= children_of(self.pid)

    def running(self, part: str) -> list[int]:
        """The living children whose command line has ``part`` in it."""
        self.children |= children_of(self.pid)
        return [pid for pid, command in self.children.items() if part in command and lives(pid)]

    def send(self, number: signal.Signals) -> None:
        self.children |= children_of(self.pid)
        self._popen.send_signal(number)

    def wait(self, timeout_s: float = 180.0) -> int:
        return self._popen.wait(timeout_s)

    def survivors(self) -> dict[int, str]:
        return {pid: command for pid, command in self.children.items() if lives(pid)}

    def end(self) -> None:
        """For teardown, whatever the test left."""
        self.send(signal.SIGTERM)
        try:
            self.wait(30)
        except subprocess.TimeoutExpired:
            self._popen.kill()
        for pid in self.survivors():
            os.kill(pid, signal.SIGKILL)


class Up(Launcher):
    """``infill up``, ready to serve once ``wait_until_ready`` has returned."""

    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        super().__init__(folder, "up", *arguments, **env)

    def wait_until_ready(self) -> None:
        self.wait_for("Ctrl-C stops everything")

    @property
    def url(self) -> str:
        return next(line.split()[1] for line in self.said.splitlines() if "API  " in line).removesuffix("/v1/inpaint")

    @property
    def redis_url(self) -> str:
        return next(line.split()[1] for line in self.said.splitlines() if line.startswith("Redis:"))

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def workers(self) -> list[dict[str, Any]]:
        """What the living workers say of themselves."""
        with Redis.from_url(self.redis_url) as connection:
            names = [name.decode() for name in connection.smembers(keys.WORKERS)]
            return [json.loads(raw) for raw in connection.mget([keys.presence(name) for name in names]) if raw]

    def holder_of(self, job_id: str) -> str:
        """The name of the worker that says it has the job; empty while none does."""
        return next((str(worker["name"]) for worker in self.workers() if job_id in worker["jobs"]), "")

    def redis_uptime_s(self) -> int:
        with Redis.from_url(self.redis_url) as connection:
            return int(connection.info("server")["uptime_in_seconds"])
