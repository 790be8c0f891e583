"""One instance's folder under ``var/``: its Redis data, its logs, and a lock that keeps a second instance out."""

import fcntl
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO

from launch.errors import LaunchError

SLOTS = 100
PRIVATE = 0o700
"""Photos, prompts and logs are in it."""


class Folder:
    """``var/<kind>-<n>``, ours until ``release``.

    The Redis we start inherits the lock, so that nobody gets its data folder as long as it runs.
    """

    def __init__(self, path: Path, lock: IO[bytes]) -> None:
        self.path = path
        self._lock = lock

    @property
    def lock_fd(self) -> int:
        return self._lock.fileno()

    @property
    def redis(self) -> Path:
        return self.path / "redis"

    def log(self, name: str) -> Path:
        return self.path / "log" / f"{name}.log"

    def clear_redis(self) -> None:
        """Forget the jobs of earlier runs."""
        shutil.rmtree(self.redis)
        self.redis.mkdir()

    def start_log(self, name: str) -> None:
        """Put the previous run's log aside."""
        with suppress(FileNotFoundError):
            self.log(name).replace(self.path / "log" / f"{name}.previous.log")

    def release(self) -> None:
        self._lock.close()


def claim(var_dir: Path, kind: str) -> Folder:
    """Take the first ``var_dir/<kind>-<n>`` that no other instance holds. Raises LaunchError."""
    try:
        for slot in range(SLOTS):
            if folder := _try(var_dir / f"{kind}-{slot}"):
                return folder
    except OSError as error:
        raise LaunchError(f"{var_dir} cannot be written ({error.strerror}). Set INFILL_VAR_DIR.") from error
    raise LaunchError(f"{SLOTS} instances hold their folders under {var_dir} already.")


def _try(path: Path) -> Folder | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=PRIVATE, exist_ok=True)
    path.chmod(PRIVATE)
    for part in ("redis", "log"):
        (path / part).mkdir(exist_ok=True)
    file = (path / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return Folder(path, file)
