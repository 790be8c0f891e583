"""A process that is started again when it dies, a little later each time."""

import signal
import time
from abc import ABC, abstractmethod

from launch.process import Process

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 15.0
LONG_LIFE_S = 30.0
"""A process that lived this long died of something new: its next start waits only FIRST_DELAY_S again."""


class Service(ABC):
    """One member of the stack through all its incarnations. ``label`` is what people and log files call it."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._process: Process | None = None
        self._delay_s = FIRST_DELAY_S
        self._restart_at = 0.0

    @abstractmethod
    def spawn(self) -> Process:
        """Start an incarnation."""

    def bury(self, process: Process) -> str:
        """Clean up after an incarnation that died unasked; returns what to add to the report of its death."""
        return ""

    @property
    def process(self) -> Process:
        assert self._process is not None, f"{self.label} was not started"
        return self._process

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.alive

    def start(self) -> None:
        self._process = self.spawn()

    def send(self, number: signal.Signals) -> None:
        if self._process:
            self._process.send(number)

    def end(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL after ``timeout_s``."""
        if self._process:
            self._process.end(timeout_s)

    def check(self) -> str | None:
        """One look: notice a death (and return a line about it), or start again when the time has come."""
        if self._process is None:
            if time.monotonic() >= self._restart_at:
                self.start()
            return None
        self._process.bound_log()
        return None if self._process.alive else self._note_death(self._process)

    def _note_death(self, process: Process) -> str:
        if time.monotonic() - process.started_at > LONG_LIFE_S:
            self._delay_s = FIRST_DELAY_S
        delay_s, self._delay_s = self._delay_s, min(2 * self._delay_s, LONGEST_DELAY_S)
        self._process, self._restart_at = None, time.monotonic() + delay_s
        return f"{self.label} (process {process.pid}) {process.ending}{self.bury(process)}; next start in {delay_s:g} s"
