"""Finding a TCP port that nobody listens on, and keeping other launchers off it."""

import fcntl
import os
import socket
import tempfile
from functools import cache
from pathlib import Path

from jobs.listening import CannotListen, PortTaken, family, probe
from launch.errors import LaunchError

TRIES = 100


class Port:
    """A port number that is reserved among launchers until ``release`` (or until this process ends).

    Binding is left to the server that will listen. Between our check and its bind another launcher could pick the
    same number, and would then take the first one's answers for its own. So each reservation is a lock on one byte,
    at the offset of the port's number, of a file that this user's launchers share.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def release(self) -> None:
        fcntl.lockf(_book(), fcntl.LOCK_UN, 1, self.number)


@cache
def _book() -> int:
    """Descriptor of the shared file, opened once: closing any descriptor of it would end all locks of this process."""
    path = Path(tempfile.gettempdir()) / f"infill-ports-{os.getuid()}.lock"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def reserve_exactly(host: str, wanted: int) -> Port:
    """Reserve ``wanted``. Raises LaunchError if it is taken."""
    if port := _try(host, wanted):
        return port
    raise LaunchError(f"Port {wanted} on {host} is taken. Name another one with --port or INFILL_PORT, or none.")


def reserve(host: str, wanted: int) -> Port:
    """Reserve ``wanted`` or the next free port above it. Raises LaunchError after TRIES ports."""
    last = min(wanted + TRIES, 65_536)
    for number in range(wanted, last):
        if port := _try(host, number):
            return port
    raise LaunchError(f"No port from {wanted} to {last - 1} is free on {host}. Name another one with --port.")


def reserve_any(host: str) -> Port:
    """Reserve a free port that the system picks."""
    for _ in range(TRIES):
        with socket.socket(family(host), socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            number = int(probe.getsockname()[1])
        if port := _try(host, number):
            return port
    raise LaunchError(f"The system names no free port on {host}.")


def _try(host: str, number: int) -> Port | None:
    try:
        fcntl.lockf(_book(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
    except OSError:
        return None
    port = Port(number)
    if _is_free(host, number):
        return port
    port.release()
    return None


def _is_free(host: str, number: int) -> bool:
    try:
        probe(host, number)
    except PortTaken:
        return False
    except CannotListen as error:
        raise LaunchError(str(error)) from error
    return True
