"""Processor time of processes: a figure that does not suffer much from what else the machine does."""

import os
from contextlib import suppress

import psutil


def used_s(pid: int) -> float:
    """User and system time of a process and its threads so far. Raises psutil.NoSuchProcess when it is gone."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def sessions_of_children() -> set[int]:
    """The sessions (``setsid``) of the children of this process, of theirs, and so on; not its own."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(ProcessLookupError):
            found.add(os.getsid(process.pid))
    return found - {os.getsid(0)}


def used_by_sessions_s(sessions: set[int]) -> float:
    """What all living processes of some sessions have used."""
    total = 0.0
    for pid in psutil.pids():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(pid) in sessions:
                total += used_s(pid)
    return total
