"""Worker processes without the seconds of their imports: a process that has imported the worker forks them.

``python -m tests.e2e.template`` reads one request a line from its standard input, and answers with the process's id.
A forked worker becomes a child of the process that asked, and dies with it, as one that it had started itself.
"""

import ctypes
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.tethered import tethered

QUIET = {"DIFFUSERS_VERBOSITY": "error", "TRANSFORMERS_VERBOSITY": "error"}
"""As ``worker/__main__.py`` sets them, before the imports that read them."""

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Template:
    """Forks workers for this process, on Linux, until the end of the ``with`` block. It starts at the first request."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.communicate()

    def start(self, env: dict[str, str], cwd: Path, log: Path) -> "Forked":
        """``python -m worker`` with these further settings, which appends what it prints to ``log``."""
        if self.process is None:
            command = tethered([sys.executable, "-m", "tests.e2e.template"])
            own = os.environ | {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "2500"} | QUIET
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(command, env=own, cwd=cwd, stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdin and self.process.stdout
        log.touch()  # it is there at once, as where a process is started with it as its output
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # the one that forks the worker ends at once: it becomes ours
        try:
            print(json.dumps({"env": {**os.environ, **env}, "log": str(log)}), file=self.process.stdin, flush=True)
            return Forked(int(self.process.stdout.readline()))
        finally:
            _prctl(PR_SET_CHILD_SUBREAPER, 0)


class Forked:
    """What tests use of ``subprocess.Popen``, for a child that another process forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        began = time.monotonic()
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(0.02)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def main() -> None:
    """Answer requests until the input ends."""
    importlib.import_module("worker.main")
    parent = os.getppid()
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid == 0:
                _become_a_worker(parent, **request)
                return
            os.write(writer, str(pid).encode())
            os._exit(0)
        os.waitpid(between, 0)
        print(os.read(reader, 20).decode(), flush=True)
        os.close(reader)
        os.close(writer)


def _become_a_worker(parent: int, env: dict[str, str], log: str) -> None:
    while os.getppid() != parent:
        time.sleep(0.001)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(env)
    with Path(os.devnull).open() as nothing, Path(log).open("ab") as output:
        os.dup2(nothing.fileno(), 0)
        for number in (1, 2):
            os.dup2(output.fileno(), number)
    sys.argv = ["worker"]
    runpy.run_module("worker", run_name="__main__", alter_sys=True)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
