"""How long the device takes for a call."""

import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch

WARM_UPS = 2
LEAST, MOST = 3, 20


def median_ms(call: Callable[[], object], device: torch.device, seconds: float = 0.5) -> float:
    """Median time of one call among others that follow one another without a pause, in ms.

    On a GPU by events between the calls, so that the host waits only once, at the end: where the host cannot enqueue as
    fast as the device computes, the gaps are in the figure, as they are when the engine steps.

    Args:
        call: enqueues work on the current stream of ``device``.
        device: where.
        seconds: about how long to measure, after the warm-up; 3 to 20 calls.
    """
    warm_ups = WARM_UPS if device.type == "cuda" else 1
    for _ in range(warm_ups):
        began = time.perf_counter()
        call()
        synchronize(device)
        once_s = time.perf_counter() - began
    calls = min(MOST, max(LEAST, int(seconds / once_s)))
    return statistics.median(_by_events(call, calls) if device.type == "cuda" else _by_clock(call, calls))


def _by_events(call: Callable[[], object], calls: int) -> list[float]:
    events = [torch.cuda.Event(enable_timing=True) for _ in range(calls + 1)]
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) for before, after in pairwise(events)]


def _by_clock(call: Callable[[], object], calls: int) -> list[float]:
    marks = [time.perf_counter()]
    for _ in range(calls):
        call()
        marks.append(time.perf_counter())
    return [1000 * (after - before) for before, after in pairwise(marks)]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
