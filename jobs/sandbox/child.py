"""The child: calls one function, again and again, each time within the limits: ``python -m jobs.sandbox.child``.

``process.py`` starts it with TARGET (``package.module:function``), the descriptors of SOCKET and MEMORY, the process id
of its PARENT and the LIMITS as JSON. It ends when the socket closes or the parent dies. Signals that stop a service it
ignores: a parent that drains still needs it.
"""

import contextlib
import importlib
import json
import mmap
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.errors import InfillError
from jobs.sandbox import wire
from jobs.sandbox.errors import Limits

if TYPE_CHECKING:
    from typing_extensions import Buffer

Function = Callable[[Sequence[memoryview], Any], "tuple[object, Sequence[Buffer]]"]
"""(buffers, arguments) -> (JSON value, contiguous buffers). What it raises of ``jobs.errors`` is for callers.

The input buffers are read-only and hold until it returns; what it keeps of them then changes.
"""

LINUX = sys.platform == "linux"
OPEN_FILES = 64
MEMORY_EXIT = 77
"""Exit status of a child without the memory even to report that."""
SPARE_BYTES = 16 << 20
"""Address space, beyond the limit, for reporting that it was exceeded."""
ZEROS = bytes(1 << 16)


def main(target: str, descriptors: tuple[int, int], parent: int, limits: Limits) -> None:
    tie_to(parent)
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    connection = socket.socket(fileno=descriptors[0])
    module, _, name = target.partition(":")
    function: Function = getattr(importlib.import_module(module), name)
    memory = memoryview(mmap.mmap(descriptors[1], limits.input_bytes + limits.output_bytes))
    limit_process(limits)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what a library prints may quote the input
    child = Child(function, limits, memory, address_space_bytes())
    connection.sendall(wire.pack({}))
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            connection.sendall(child.reply(wire.receive(connection)))


def tie_to(parent: int) -> None:
    """Die with the parent's thread that started this process, also in the middle of C, where EOF goes unnoticed.

    Leave no core dump, which would hold pictures, not even where cores are piped to a program. Be the first process to
    be killed where the machine runs out of memory.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not LINUX:
        return
    import ctypes

    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    pr_set_pdeathsig, pr_set_dumpable = 1, 4
    prctl = ctypes.CDLL(None).prctl
    prctl(pr_set_pdeathsig, int(signal.SIGKILL), 0, 0, 0)
    prctl(pr_set_dumpable, 0, 0, 0, 0)
    if os.getppid() != parent:  # it died before the lines above
        os._exit(1)


def limit_process(limits: Limits) -> None:
    """What holds from here on for good: memory, few descriptors, no byte written to any file, memory files included.

    macOS ignores RLIMIT_AS, or refuses it.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if LINUX:
        allowed = address_space_bytes() + limits.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed + SPARE_BYTES))


def address_space_bytes() -> int:
    if not LINUX:
        return 0
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@dataclass(frozen=True)
class Child:
    """``begun_bytes``: its address space before the first call."""

    function: Function
    limits: Limits
    memory: memoryview
    begun_bytes: int

    def reply(self, line: bytes) -> bytes:
        """Answer one request, as ``process.Reply``.

        The processor's timer runs meanwhile; its signal, SIGPROF, ends the process. RLIMIT_CPU would do the same, but
        counts whole seconds.
        """
        signal.setitimer(signal.ITIMER_PROF, self.limits.cpu_s)
        request = json.loads(line)
        reply = self._outcome(request)
        self._wipe(sum(request["sizes"]))
        reply["kept_bytes"] = max(0, address_space_bytes() - self.begun_bytes)
        try:
            packed = wire.pack(reply)
        except (TypeError, ValueError, RecursionError) as error:
            packed = wire.pack({"failure": type(error).__name__})
        signal.setitimer(signal.ITIMER_PROF, 0)
        return packed

    def _outcome(self, request: Any) -> dict[str, object]:
        try:
            value, buffers = self.function(list(self._inputs(request["sizes"])), request["arguments"])
            views = [wire.flat(buffer) for buffer in buffers]
            if sum(view.nbytes for view in views) > self.limits.output_bytes:
                return {"limit": "output"}
            self._put(views)
            return {"value": value, "sizes": [view.nbytes for view in views]}
        except MemoryError:
            if LINUX:
                _, allowed = resource.getrlimit(resource.RLIMIT_AS)
                resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
            return {"limit": "memory"}
        except InfillError as error:
            return {"error": {"code": error.code, "message": str(error)}}
        except BaseException as error:
            return {"failure": type(error).__name__}

    def _inputs(self, sizes: Iterable[int]) -> Iterator[memoryview]:
        at = 0
        for size in sizes:
            yield self.memory[at : at + size].toreadonly()
            at += size

    def _put(self, views: Iterable[memoryview]) -> None:
        at = self.limits.input_bytes
        for view in views:
            self.memory[at : at + view.nbytes] = view
            at += view.nbytes

    def _wipe(self, size: int) -> None:
        """So that a decoder that reads past the end of its input finds nothing of another caller's."""
        for at in range(0, size, len(ZEROS)):
            part = min(len(ZEROS), size - at)
            self.memory[at : at + part] = ZEROS[:part]


if __name__ == "__main__":
    target, connection, memory, parent, limits = sys.argv[1:]
    try:
        main(target, (int(connection), int(memory)), int(parent), Limits(**json.loads(limits)))
    except MemoryError:
        os._exit(MEMORY_EXIT)
