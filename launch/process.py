"""One child process with a log file, which does not outlive the launcher."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
MAX_LOG_BYTES = 64 * 2**20


class Process:
    """A running child, in a session of its own: Ctrl-C reaches the launcher only, which then stops things in order.

    Args:
        command: program and arguments.
        env: variables on top of the launcher's own.
        log: file that gets standard output and standard error, appended.
        death_signal: what Linux sends the child when the launcher dies without having stopped it.
        keep_fds: open files that the child inherits.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        env: dict[str, str],
        log: Path,
        death_signal: signal.Signals = signal.SIGKILL,
        keep_fds: Sequence[int] = (),
    ) -> None:
        self.log = log
        self.started_at = time.monotonic()
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [str(part) for part in command],
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_tether(death_signal),  # noqa: PLW1509  # the launcher has one thread
                pass_fds=keep_fds,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self._popen.poll()
        if code is None:
            return "is running"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with status {code}"

    def bound_log(self) -> None:
        """Copy a log that has become large to ``*.previous.log`` and go on at its beginning.

        The child appends, so it need not know. Lines that it writes between the two steps are lost.
        """
        with suppress(OSError):  # a full disk must not stop the launcher
            if self.log.stat().st_size > MAX_LOG_BYTES:
                shutil.copyfile(self.log, self.log.with_suffix(".previous.log"))
                os.truncate(self.log, 0)

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._popen.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within ``timeout_s``."""
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout_s)
        return not self.alive

    def end(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL after ``timeout_s``."""
        self.send(signal.SIGTERM)
        if not self.wait(timeout_s):
            self.send(signal.SIGKILL)
            self._popen.wait()


def _tether(death_signal: signal.Signals) -> Callable[[], None] | None:
    """A function for the forked child that ties its life to ours: ``prctl(PR_SET_PDEATHSIG)``, which only Linux has.

    The signal comes when the *thread* that forked ends, so children are started from the main thread only.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    launcher = os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != launcher:  # it died before the line above
            os._exit(1)

    return tie


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log file; empty where there is none."""
    with suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return ""
