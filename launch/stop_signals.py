"""Ctrl-C, SIGTERM and a closed terminal, counted: the first asks for an orderly end, the next one for a quicker end."""

import signal
from types import FrameType

from launch.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Replaces the handlers of SIGNALS for good; nothing is raised inside a handler."""

    def __init__(self) -> None:
        self.count = 0
        for number in SIGNALS:
            signal.signal(number, self._record)

    def _record(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1

    @property
    def requested(self) -> bool:
        return self.count > 0

    def check(self) -> None:
        """Raise Interrupted once the end has been asked for."""
        if self.requested:
            raise Interrupted
