"""When waiting jobs will start and end, from what they cost. Pure arithmetic: no Redis."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.pace import Cost


@dataclass(frozen=True)
class Span:
    """Seconds from now."""

    start_s: float
    end_s: float


@dataclass
class Seated:
    """A job in a seat. ``index``: of the waiting job it was; None for one that was there before."""

    index: int | None
    cost: Cost
    start_s: float
    undone: float = 1.0

    def whole_s(self, crowd: float) -> float:
        """How long all of it would take among ``crowd`` jobs a device, which take turns."""
        return max(self.cost.alone_s, self.cost.share_s * crowd, 1e-6)


def forecast(running: Sequence[Cost], waiting: Sequence[Cost], seats: int, devices: int) -> list[Span]:
    """Let the jobs run in thought: those in seats take turns, and who ends makes room for the next.

    Args:
        running: what is left of the jobs in seats.
        waiting: the waiting jobs, the next one first.
        seats: of all workers together.
        devices: how many workers there are; jobs are taken to spread evenly over them.

    Returns:
        A span for each waiting job.
    """
    now, spans = 0.0, [Span(0.0, 0.0)] * len(waiting)
    seated = [Seated(None, cost, now) for cost in running]
    queue = deque(enumerate(waiting))
    while queue or seated:
        while queue and len(seated) < seats:
            index, cost = queue.popleft()
            seated.append(Seated(index, cost, now))
        crowd = max(1.0, len(seated) / devices)
        passed_s = min(job.undone * job.whole_s(crowd) for job in seated)
        now += passed_s
        for job in seated:
            job.undone -= passed_s / job.whole_s(crowd)
            if job.undone < 1e-9 and job.index is not None:
                spans[job.index] = Span(job.start_s, now)
        seated = [job for job in seated if job.undone >= 1e-9]
    return spans
