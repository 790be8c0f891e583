"""What goes between parent and child: lines of JSON over a socket, and bytes in shared memory.

Each child shares one memory file with its parent (``memfd_create``; without it, on macOS, an unnamed temporary file):
``input_bytes`` for what goes in, then ``output_bytes`` for what comes out. Pages are taken when they are first written
and stay for the next call: taking one costs more than copying it, so new files for each call are several times dearer.

The parent reads and writes the file by calls only. A map of it would kill the parent by SIGBUS if a child shrank the
file, and would show pixels that can still change.
"""

import json
import os
import socket
import tempfile
import time
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_MESSAGE_BYTES = 65_536


class BrokenMessage(Exception):
    """What arrived is longer than any message."""


def pack(message: object) -> bytes:
    """A line of JSON, at most MAX_MESSAGE_BYTES. Raises TypeError, ValueError (too long, not finite, not Unicode)."""
    line = json.dumps(message, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    if len(line) > MAX_MESSAGE_BYTES:
        raise ValueError(f"{len(line)} bytes of JSON are more than {MAX_MESSAGE_BYTES}; send them as a buffer")
    return line


def receive(connection: socket.socket, deadline: float | None = None) -> bytes:
    """The next line; there is never more than one under way. ``deadline``: of ``time.monotonic()``.

    Raises EOFError, TimeoutError, BrokenMessage.
    """
    line = b""
    while not line.endswith(b"\n"):
        if deadline is not None:
            connection.settimeout(max(deadline - time.monotonic(), 1e-3))
        part = connection.recv(MAX_MESSAGE_BYTES)
        line += part
        if not part:
            raise EOFError
        if len(line) > MAX_MESSAGE_BYTES:
            raise BrokenMessage
    return line


def create_memory(size: int) -> IO[bytes]:
    """A file of ``size`` zeros without a name, which takes no memory until it is written. Raises OSError."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("sandbox")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    memory = os.fdopen(file, "r+b", buffering=0)
    memory.truncate(size)
    return memory


def flat(buffer: "Buffer") -> memoryview:
    """As bytes in a row. Raises TypeError where they are not contiguous."""
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else memoryview(b"")


def write(memory: IO[bytes], data: memoryview, at: int) -> None:
    """Without holding other threads up. Raises OSError."""
    while data.nbytes:
        written = os.pwrite(memory.fileno(), data, at)
        data, at = data[written:], at + written
