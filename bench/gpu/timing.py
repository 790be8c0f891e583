"""How long the device takes for a call."""

import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch.utils.benchmark import Timer

WARM_UPS = 2
LEAST, MOST = 3, 20
LONGEST = 3
"""On a processor, calls are repeated until their times agree, for so many times the wanted seconds at most."""


def median_ms(call: Callable[[], object], device: torch.device, seconds: float = 0.5) -> float:
    """Median time of one call among others that follow one another without a pause, in ms.

    A processor's is taken by ``torch.utils.benchmark``. On a GPU that waits for the device after each block of 1, 10,
    100, ... calls, and makes the blocks so long that the wait is a ten-thousandth of them. So fast calls would take
    seconds a cell, and ten minutes have to do for all cells. With events between the calls the host waits once, at the
    end: 3 to 20 calls are enough. Where the host cannot enqueue as fast as the device computes, the gaps are in the
    figure, as they are when the engine steps.

    Args:
        call: enqueues work on the current stream of ``device``.
        device: where.
        seconds: about how long to measure, after the warm-up; on a GPU 3 to 20 calls.
    """
    if device.type == "cuda":
        return statistics.median(_by_events(call, _calls(call, device, seconds)))
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return 1000 * timer.adaptive_autorange(min_run_time=seconds, max_run_time=LONGEST * seconds).median


def _calls(call: Callable[[], object], device: torch.device, seconds: float) -> int:
    """How many fit, by the last of the warm-ups."""
    for _ in range(WARM_UPS):
        began = time.perf_counter()
        call()
        synchronize(device)
        once_s = time.perf_counter() - began
    return min(MOST, max(LEAST, int(seconds / once_s)))


def _by_events(call: Callable[[], object], calls: int) -> list[float]:
    events = [torch.cuda.Event(enable_timing=True) for _ in range(calls + 1)]
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) for before, after in pairwise(events)]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
