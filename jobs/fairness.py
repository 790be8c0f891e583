"""The order of callers in the queue, and how much one caller may hold of what all share."""

from collections import Counter
from collections.abc import Sequence


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
