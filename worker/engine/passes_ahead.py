"""How far the engine's thread may be ahead of the device.

No step waits for the device, so without a bound all steps of a job would be queued on it at once: a job that comes
would wait for them, a canceled one would still be run, and every measured time would be that of queueing. So one pass
at most is queued behind the one that runs, and whatever is timed by itself begins with an idle device.
"""

from collections.abc import Callable
from typing import Protocol

import torch

from worker.denoise.device import raise_if_lost


class Event(Protocol):
    """A point in the device's queue, as ``torch.cuda.Event``."""

    def record(self) -> None: ...

    def synchronize(self) -> None:
        """Wait until the device has come to it."""


class PassesAhead:
    """Of one device.

    Args:
        event: makes an event of the device; None for one whose calls return when the work is done, as a CPU's do.
    """

    def __init__(self, event: Callable[[], Event] | None) -> None:
        self._event = event
        self._last: Event | None = None

    def launched(self) -> None:
        """A pass has been queued: wait for the one before. Raises DeviceLost."""
        before, self._last = self._last, None
        if self._event:
            self._last = self._event()
            self._last.record()
        _wait(before)

    def finish(self) -> None:
        """Wait for the last pass. Raises DeviceLost."""
        last, self._last = self._last, None
        _wait(last)


def passes_ahead(device: torch.device) -> PassesAhead:
    """Of a device that torch has events for, as CUDA and ROCm."""
    module = None if device.type == "cpu" else torch.get_device_module(device)
    return PassesAhead(getattr(module, "Event", None))


def _wait(event: Event | None) -> None:
    """An error of a pass, such as an illegal access, is raised here, not where the pass was queued."""
    if event:
        try:
            event.synchronize()
        except Exception as error:
            raise_if_lost(error)
            raise
