"""The order of jobs in the queue by priority and caller, and how much one caller may hold of what all share."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from jobs.schema import Priority


class QueuedJob(NamedTuple):
    """Whose job it is ("": nobody's), and how it waits."""

    caller: str
    priority: Priority


def low_begins(queue: Sequence[QueuedJob]) -> int:
    """Index of the first job of low priority; the length of the queue where there is none."""
    return next((index for index, job in enumerate(queue) if job.priority == "low"), len(queue))


def overtaken_by(queue: Sequence[QueuedJob], job: QueuedJob) -> int | None:
    """Where a new job goes into the queue: behind all of normal priority if its own is low, before all of low priority
    if it is normal, and among its like by ``first_overtaken``.

    Args:
        queue: the waiting jobs, the next one first.
        job: the new one.

    Returns:
        Index of the job that the new one overtakes; None to stand at the end.
    """
    begin = low_begins(queue)
    start, end = (begin, len(queue)) if job.priority == "low" else (0, begin)
    index = first_overtaken([other.caller for other in queue[start:end]], job.caller)
    place = end if index is None else start + index
    return None if place == len(queue) else place


def first_overtaken(waiting: Sequence[str], caller: str) -> int | None:
    """Where a new job of ``caller`` goes into the queue, so that it never waits behind another caller's second turn.

    A job's turn is the number of jobs of the same caller ahead of it. The new job goes before the first job whose turn
    is later than its own; jobs of equal turn keep the order they came in.

    Args:
        waiting: the callers of the waiting jobs, the next one first.
        caller: of the new job.

    Returns:
        Index of the job that the new one overtakes; None to stand at the end.
    """
    own_turn = sum(other == caller for other in waiting)
    seen: Counter[str] = Counter()
    for index, other in enumerate(waiting):
        if seen[other] > own_turn:
            return index
        seen[other] += 1
    return None


def may_take(own: int, taken: int, limit: int, share: float) -> bool:
    """Whether a caller that holds ``own`` of the ``taken`` may take more of ``limit``.

    It may hold ``share`` of what it holds and what is free together. So alone it gets to ``share`` of the limit, the
    next one to ``share`` of the rest, and each leaves something to one that holds nothing. With a share of 1 only the
    limit counts. (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998.)
    """
    return own < share * (limit - taken + own)
