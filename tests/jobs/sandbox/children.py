"""What the sandbox's tests share. Their children run ``functions.py``."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.sandbox.errors import Limits
from jobs.sandbox.pool import Sandbox

MIB = 1 << 20
LIMITS = Limits(cpu_s=20, wall_s=60, memory_bytes=256 * MIB, input_bytes=32 * MIB, output_bytes=64 * MIB)
RUN = "tests.jobs.sandbox.functions:run"
WAIT_S = 60

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this limit")


def run(sandbox: Sandbox, *arguments: Any, buffers: Any = (), wait_s: float = WAIT_S) -> Any:
    return sandbox.call(buffers, arguments, wait_s).value


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def signed(folder: Path) -> int:
    """The process that has shown itself in ``folder``, once it has."""
    until(lambda: any(folder.iterdir()))
    return int(next(folder.iterdir()).name)


def is_gone(pid: int) -> bool:
    """Whether the process has ended, its files closed; one that nobody has waited for is a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
