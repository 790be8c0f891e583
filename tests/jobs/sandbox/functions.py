"""What the sandbox's tests run in its children; standard library only, so that a child starts fast."""

import ctypes
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs import errors
from jobs.errors import InvalidImage

SECRET = "the caller's words"
KEPT = list[bytearray]()

Result = tuple[Any, Sequence[Any]]


def run(buffers: Sequence[memoryview], arguments: Any) -> Result:
    """Do what ``arguments`` name: ["name", argument, ...]."""
    name, *rest = arguments
    result: Result = globals()[name](buffers, *rest)
    return result


def echo(buffers: Sequence[memoryview], value: Any = None) -> Result:
    return value, buffers


def pid(_: Sequence[memoryview]) -> Result:
    return os.getpid(), []


def surroundings(_: Sequence[memoryview]) -> Result:
    files = [os.path.realpath(file) for file in Path("/proc/self/fd").iterdir()]
    return {"environment": list(os.environ), "files": files, "session": os.getsid(0), "modules": list(sys.modules)}, []


def shared_bytes(_: Sequence[memoryview]) -> Result:
    return os.fstat(int(sys.argv[3])).st_blocks * 512, []


def _sign(folder: str) -> None:
    """Show which process this is by an empty file: a child cannot write to any."""
    Path(folder, str(os.getpid())).touch()


def spin(_: Sequence[memoryview], folder: str | None = None) -> Result:
    """In C, where no signal handler of Python's and no look at the socket comes in between."""
    if folder:
        _sign(folder)
    return sum(range(10**13)), []


def work(_: Sequence[memoryview], seconds: float) -> Result:
    """Take that much processor time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    return os.getpid(), []


def sleep(_: Sequence[memoryview], seconds: float) -> Result:
    time.sleep(seconds)
    return None, []


def wait_for(_: Sequence[memoryview], gate: str, folder: str) -> Result:
    _sign(folder)
    while not Path(gate).exists():
        time.sleep(0.01)
    return os.getpid(), []


def allocate(_: Sequence[memoryview], size: int, times: int = 1) -> Result:
    blocks = [bytearray(size) for _ in range(times)]
    return len(blocks), []


def keep(_: Sequence[memoryview], size: int) -> Result:
    KEPT.append(bytearray(size))
    return os.getpid(), []


def inflate(_: Sequence[memoryview], size: int) -> Result:
    return None, [bytes(size)]


def write_file(_: Sequence[memoryview], path: str) -> Result:
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    return os.write(file, b"1"), []


def grow_memory_file(_: Sequence[memoryview], size: int) -> Result:
    os.ftruncate(os.memfd_create("large"), size)
    return None, []


def open_files(_: Sequence[memoryview]) -> Result:
    return [os.open(os.devnull, os.O_RDONLY) for _ in range(10_000)], []


def crash(_: Sequence[memoryview]) -> Result:
    ctypes.string_at(0)
    return None, []


def leave(_: Sequence[memoryview]) -> Result:
    os._exit(3)


def system_exit(_: Sequence[memoryview]) -> Result:
    raise SystemExit(SECRET)


def invalid_image(_: Sequence[memoryview]) -> Result:
    raise InvalidImage("image: cut short.")


def raise_error(_: Sequence[memoryview], name: str) -> Result:
    raise getattr(errors, name)("A sentence.")


def fail(_: Sequence[memoryview]) -> Result:
    raise ValueError(SECRET)


def no_json(_: Sequence[memoryview]) -> Result:
    return {"function": fail}, [b"buffer"]


def no_unicode(_: Sequence[memoryview]) -> Result:
    return "\udc80", []


def recurse(_: Sequence[memoryview]) -> Result:
    return recurse(_)


def garbage(_: Sequence[memoryview], text: str, times: int = 1) -> Result:
    """Send what is no reply, past the child's own code, as a decoder could that was taken over."""
    socket.socket(fileno=os.dup(int(sys.argv[2]))).sendall(text.encode() * times)
    time.sleep(60)
    return None, []


def shrink(_: Sequence[memoryview]) -> Result:
    os.ftruncate(int(sys.argv[3]), 0)
    return garbage(_, '{"value": null, "sizes": [4096]}\n')


def leftovers(_: Sequence[memoryview], size: int) -> Result:
    """How much of the shared input is not zero, beyond what was sent this time."""
    at = sum(buffer.nbytes for buffer in _)
    return len(os.pread(int(sys.argv[3]), size, at).strip(b"\0")), []
