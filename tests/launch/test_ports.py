import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest

from launch import ports
from launch.errors import LaunchError

HOST = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.bind((HOST, 0))
        server.listen()
        yield server


def test_a_free_port_is_taken_as_wanted() -> None:
    some = ports.reserve_any(HOST)
    some.release()
    again = ports.reserve(HOST, some.number)
    assert again.number == some.number
    again.release()


def test_a_port_that_somebody_listens_on_gives_way_to_the_next_free_one(listener: socket.socket) -> None:
    taken = listener.getsockname()[1]
    port = ports.reserve(HOST, taken)
    assert taken < port.number < taken + ports.TRIES
    port.release()


def test_two_launchers_never_get_the_same_port_though_neither_listens_yet() -> None:
    code = f"""
from launch import ports
print(ports.reserve_any({HOST!r}).number, flush=True)
input()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin and other.stdout
        theirs = int(other.stdout.readline())
        ours = ports.reserve(HOST, theirs)
        assert ours.number > theirs
        ours.release()
        other.communicate("\n")
    mine = ports.reserve(HOST, theirs)
    assert mine.number == theirs
    mine.release()


def test_no_free_port_is_said_in_a_sentence() -> None:
    with socket.socket() as server, suppress(OSError):
        server.bind((HOST, 65_535))
        server.listen()
        with pytest.raises(LaunchError, match="No port from 65535 to 65535 is free"):
            ports.reserve(HOST, 65_535)


def test_an_address_of_another_machine_is_said_in_a_sentence() -> None:
    with pytest.raises(LaunchError, match=r"'192\.0\.2\.1' is not an address of this machine"):
        ports.reserve("192.0.2.1", 8000)
