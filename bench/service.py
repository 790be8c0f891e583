"""The real service for a measurement, started as ``infill up`` starts it and stopped at the end."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from launch.settings import LaunchSettings
from launch.stack import Stack
from launch.stop_signals import SIGNALS, StopSignals


@contextmanager
def running_service(workers: int = 1) -> Iterator[str]:
    """Yields the API's URL. From then on Ctrl-C, SIGTERM and a closed terminal end the program, which stops it all."""
    settings = LaunchSettings(workers=workers)
    stack = Stack(settings, "bench", StopSignals(), lambda line: print(line, file=sys.stderr))
    try:
        stack.folder.clear_redis()
        stack.start()
        for number in SIGNALS:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
        yield stack.url
    finally:
        stack.stop()
