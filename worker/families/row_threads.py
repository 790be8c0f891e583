"""Rows of a batch side by side on a CPU's cores, each part of them on a thread of its own.

OpenMP's threads meet at every operation of a network, of which a small one has hundreds; who waits either sleeps and
wakes late or spins and is in the way. Threads with rows of their own meet once a pass. A row alone has all of OpenMP's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from threading import Barrier
from typing import TypeVar

import torch

Row = TypeVar("Row")


def side_by_side(call: Callable[[Sequence[Row]], torch.Tensor], rows: Sequence[Row]) -> torch.Tensor:
    """What ``call`` makes of ``rows``, (rows, ...), made of as many parts of them as there are threads.

    Args:
        call: takes some of the rows and returns one row of output for each; runs in inference mode.
        rows: at least one.
    """
    threads = torch.get_num_threads()
    parts = min(len(rows), threads)
    if parts == 1:
        return call(rows)
    ends = [len(rows) * part // parts for part in range(parts + 1)]
    pieces = [rows[begin:end] for begin, end in pairwise(ends)]
    return torch.cat(list(_pool(parts, threads).map(torch.inference_mode()(call), pieces)))


@cache
def _pool(parts: int, threads: int) -> ThreadPoolExecutor:
    """Start ``parts`` threads that share torch's ``threads``.

    ``set_num_threads`` also changes the default of new threads; it is restored afterwards.
    """
    all_there = Barrier(parts)

    def begin() -> None:
        torch.get_num_threads()  # the first call of a thread takes the process's number, and then not again
        torch.set_num_threads(threads // parts)

    pool = ThreadPoolExecutor(parts, "rows", initializer=begin)
    list(pool.map(lambda _: all_there.wait(), range(parts)))
    torch.set_num_threads(threads)
    return pool
