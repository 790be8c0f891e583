"""Processor time of processes, from proc(5): a figure that does not suffer much from what else the machine does."""

import os
from contextlib import suppress
from pathlib import Path


def used_s(pid: int) -> float:
    """User and system time of a process and its threads so far. Raises OSError when it is gone."""
    fields = _fields(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def used_by_sessions_s(sessions: set[int]) -> float:
    """The same over all living processes of some sessions (``setsid``)."""
    total = 0.0
    for pid in _pids():
        with suppress(OSError):
            if int(_fields(pid)[3]) in sessions:
                total += used_s(pid)
    return total


def sessions_of_children() -> set[int]:
    """The sessions that children of this process lead."""
    found = set()
    for pid in _pids():
        with suppress(OSError):
            parent, session = _fields(pid)[1], int(_fields(pid)[3])
            if int(parent) == os.getpid() and session == pid:
                found.add(session)
    return found


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _fields(pid: int) -> list[str]:
    """From the third on: state, parent, group, session, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
