"""One child process, as its parent sees it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, ValidationError

from jobs.errors import InfillError
from jobs.sandbox import wire
from jobs.sandbox.child import MEMORY_EXIT
from jobs.sandbox.errors import ChildCrashed, FunctionFailed, LimitExceeded, Limits, SandboxError
from jobs.schema import Record

KEPT_BYTES = 24 << 20
"""Shared memory that stays with a child between calls: what a photo of 6 megapixels takes."""
ENVIRONMENT = ("PATH", "LANG", "LD_LIBRARY_PATH")
"""All that a child has of its parent's environment: no address of Redis, no password."""
SETTINGS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "MALLOC_ARENA_MAX"), "1") | {
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
"""One thread, and up to 64 MiB of freed memory that glibc keeps for the next call. By default it gives them back and
takes them anew for each picture, which was half the time of decoding one of 4 megapixels."""
KEPT_SHARE = 2
"""A child that keeps more than one part in so many of its memory limit is replaced: the next call would lack it."""
EXIT_S = 1.0
"""How long a child that closed its socket may take to end by itself, so that its exit status tells why."""


@dataclass(frozen=True)
class Answer:
    """What the function returned."""

    value: Any
    buffers: list[bytes]


class Raised(Record):
    code: str
    message: str


class Reply(Record):
    """What a child sends: ``value`` and the output's ``sizes``, or why there are none.

    ``error``: raised of jobs.errors; ``failure``: the class's name of anything else; ``kept_bytes``: by how much the
    child's address space has grown since it was ready.
    """

    value: Any = None
    sizes: tuple[NonNegativeInt, ...] = ()
    error: Raised | None = None
    limit: Literal["memory", "output"] | None = None
    failure: str | None = Field(None, pattern=r"^\w{1,80}$")
    kept_bytes: NonNegativeInt = 0


class Process:
    """Starts the child. Raises OSError.

    Attributes:
        ready: it has loaded its function.
        fit: it can take a call: it is ready, in no call, and its last one has left it sound.
    """

    def __init__(self, target: str, limits: Limits) -> None:
        self.ready = self.fit = False
        self._limits = limits
        with contextlib.ExitStack() as undo:
            self._memory = undo.enter_context(wire.create_memory(limits.input_bytes + limits.output_bytes))
            self._connection, theirs = map(undo.enter_context, socket.socketpair())
            inherited = (theirs.fileno(), self._memory.fileno())
            arguments = [target, *map(str, inherited), str(os.getpid()), json.dumps(asdict(limits))]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "jobs.sandbox.child", *arguments],
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,
            )
            theirs.close()
            undo.pop_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended. Its socket closes a moment before it can be waited for."""
        if self._process.poll() is not None:
            return False
        try:
            self._connection.settimeout(None)
            return self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def wait_until_ready(self, within_s: float) -> None:
        """Raises ChildCrashed."""
        try:
            wire.receive(self._connection, time.monotonic() + within_s)
        except (EOFError, OSError, wire.BrokenMessage) as error:
            raise ChildCrashed(f"not ready: {type(error).__name__}, {_ending(self.end())}") from None
        self.ready = self.fit = True

    def call(self, views: Sequence[memoryview], arguments: object) -> Answer:
        """Raises what the function raised of jobs.errors; FunctionFailed, LimitExceeded, ChildCrashed.

        TypeError, ValueError: the arguments are no JSON, or too long.
        """
        request = wire.pack({"sizes": [view.nbytes for view in views], "arguments": arguments})
        self.fit = False
        self._put(views)
        reply = self._exchange(request)
        if reply.limit:
            raise LimitExceeded(reply.limit)
        if sum(reply.sizes) > self._limits.output_bytes:
            raise ChildCrashed("sent sizes beyond its output")
        buffers = self._outputs(reply.sizes)
        error = _error(reply)
        self._release()
        self.fit = reply.kept_bytes * KEPT_SHARE <= self._limits.memory_bytes
        if error:
            raise error
        return Answer(reply.value, buffers)

    def _put(self, views: Sequence[memoryview]) -> None:
        at = 0
        for view in views:
            wire.write(self._memory, view, at)
            at += view.nbytes

    def _outputs(self, sizes: Sequence[int]) -> list[bytes]:
        """Copies, which no child can change any more. Raises ChildCrashed where it has shrunk the file."""
        ends = list(accumulate(sizes, initial=self._limits.input_bytes))
        buffers = [os.pread(self._memory.fileno(), size, at) for size, at in zip(sizes, ends, strict=False)]
        if [len(buffer) for buffer in buffers] != list(sizes):
            raise ChildCrashed("sent less than it named")
        return buffers

    def _release(self) -> None:
        """Give back the pages that a large picture took; the child's map sees zeros there again."""
        if os.fstat(self._memory.fileno()).st_blocks * 512 > KEPT_BYTES:
            self._memory.truncate(0)
            self._memory.truncate(self._limits.input_bytes + self._limits.output_bytes)

    def _exchange(self, request: bytes) -> Reply:
        deadline = time.monotonic() + self._limits.wall_s
        try:
            self._connection.settimeout(self._limits.wall_s)
            self._connection.sendall(request)
            return Reply.model_validate_json(wire.receive(self._connection, deadline))
        except TimeoutError:
            raise LimitExceeded("wall") from None
        except (EOFError, OSError):
            raise self._death() from None
        except (wire.BrokenMessage, ValidationError) as error:
            raise ChildCrashed(f"sent no reply: {type(error).__name__}") from None

    def _death(self) -> SandboxError:
        """What a closed socket means, by the child's exit status, which comes a little later."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_S)
        status = self.end()
        if status == -signal.SIGPROF:
            return LimitExceeded("cpu")
        return LimitExceeded("memory") if status == MEMORY_EXIT else ChildCrashed(_ending(status))

    def kill(self) -> None:
        """Also from another thread than the one whose call it is in; that one finds its socket closed."""
        self._process.kill()

    def wait(self) -> None:
        self._process.wait()

    def end(self) -> int:
        """Kill it, unless it has died, and free what it held here. Returns its exit status, as subprocess has it."""
        self.fit = False
        self._process.kill()
        self._connection.close()
        self._memory.close()
        return self._process.wait()


def _ending(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _environment() -> dict[str, str]:
    """The same modules as here, however they came onto the path; one thread; nothing secret."""
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return kept | SETTINGS | {"PYTHONPATH": path}


def _error(reply: Reply) -> Exception | None:
    """What the function raised; of several classes with its code, the one nearest to the root. Raises ChildCrashed."""
    if reply.failure:
        return FunctionFailed(reply.failure)
    if not reply.error:
        return None
    for error in _tree(InfillError):
        if error.code == reply.error.code:
            return error(reply.error.message)
    raise ChildCrashed("raised an unknown error")


def _tree(root: type[InfillError]) -> Iterator[type[InfillError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)
