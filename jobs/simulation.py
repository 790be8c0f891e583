"""The queue simulated: running jobs share the devices; each one that ends starts the next."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobs.speed import Cost


@dataclass(frozen=True)
class Interval:
    """Seconds from the simulation's start."""

    start_s: float
    end_s: float


@dataclass
class RunningJob:
    """A job in a seat. ``index``: of the waiting job it was; None for one that was there before."""

    index: int | None
    cost: Cost
    start_s: float
    undone: float = 1.0

    def whole_s(self, crowd: float) -> float:
        """How long all of it would take among ``crowd`` jobs a device, which take turns."""
        return max(self.cost.alone_s, self.cost.batched_s * crowd, 1e-6)


class Simulation:
    """Waiting jobs are added one by one, the next one first. A job that is added changes no start before its own.

    Args:
        running: what is left of the jobs in seats.
        seats: of all workers together.
        devices: how many workers there are; jobs are taken to spread evenly over them.
    """

    def __init__(self, running: Sequence[Cost], seats: int, devices: int) -> None:
        self.seats = seats
        self.devices = devices
        self.added = 0
        self._now_s = 0.0
        self._seated = [RunningJob(None, cost, 0.0) for cost in running]
        self._ended: dict[int, Interval] = {}
        self._ahead: dict[int, Interval] | None = None

    @property
    def full_crowd(self) -> float:
        """Jobs a device while every seat is taken."""
        return max(1.0, self.seats / self.devices)

    def add(self, cost: Cost, from_s: float = 0.0) -> int:
        """Start the job once a seat is free, and not before ``from_s``. Returns its index."""
        while self._now_s < from_s:
            self._advance(from_s)
        while len(self._seated) >= self.seats:
            self._advance()
        self._seated.append(RunningJob(self.added, cost, self._now_s))
        self._ahead = None
        self.added += 1
        return self.added - 1

    def interval(self, index: int) -> Interval:
        """When an added job runs, if no other is added."""
        if index in self._ended:
            return self._ended[index]
        if self._ahead is None:
            self._ahead = self._run_out()
        return self._ahead[index]

    def _run_out(self) -> dict[int, Interval]:
        """The intervals of the jobs that are in seats now."""
        ahead = Simulation((), self.seats, self.devices)
        ahead._now_s, ahead._seated = self._now_s, [replace(job) for job in self._seated]
        while ahead._seated:
            ahead._advance()
        return ahead._ended

    def _advance(self, limit_s: float = math.inf) -> None:
        """Run until the next job ends, or until ``limit_s``."""
        crowd = max(1.0, len(self._seated) / self.devices)
        next_end_s = min((job.undone * job.whole_s(crowd) for job in self._seated), default=math.inf)
        passed_s = min(next_end_s, limit_s - self._now_s)
        self._now_s = limit_s if passed_s < next_end_s else self._now_s + passed_s
        for job in self._seated:
            job.undone -= passed_s / job.whole_s(crowd)
            if job.undone < 1e-9 and job.index is not None:
                self._ended[job.index] = Interval(job.start_s, self._now_s)
        self._seated = [job for job in self._seated if job.undone >= 1e-9]


def simulate(running: Sequence[Cost], waiting: Sequence[Cost], seats: int, devices: int) -> list[Interval]:
    """The interval of each of ``waiting``, which all come at once; the other arguments are those of ``Simulation``."""
    simulation = Simulation(running, seats, devices)
    for cost in waiting:
        simulation.add(cost)
    return [simulation.interval(index) for index in range(len(waiting))]
