"""What can go wrong in launching, as sentences for the person at the terminal."""

from pathlib import Path


class LaunchError(Exception):
    """The stack cannot be started, or the demo failed.

    Args:
        message: a sentence that says what is wrong and, where possible, what to do.
        log: the log file whose last lines explain it.
    """

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


class Interrupted(Exception):
    """Somebody asked for the end (Ctrl-C, SIGTERM) while something was still being started or waited for."""
