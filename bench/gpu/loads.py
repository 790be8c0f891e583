"""Throughput of ``bench.throughput``'s sides on one model, under closed loops and Poisson arrivals, within the time."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.gpu.agreement import agreements
from bench.gpu.budget import Budget
from bench.gpu.packages import missing
from bench.gpu.results import Results
from bench.served_model import ServedModel
from bench.throughput.clients import Limits, Turn, closed, poisson
from bench.throughput.report import Cell, Figures, figures
from bench.throughput.sides import Side, running_sides
from bench.throughput.workload import Case, full
from launch.process import tail

SHARE_OF_B = 0.7
"""Poisson arrivals, as a share of what b can do: more would only fill b's queue."""
LEAST_S = 60.0
"""Starting servers takes about as long: with less time left nothing would come of it."""
LEAST_ARRIVALS = 6
TOGETHER = 8
"""Requests at once where pictures are compared."""
VARIANTS = {"a": ("service", "engine"), "b": ("b",), "c": ("c",)}
"""How a side can be started, best first; names of ``bench.gpu.packages.NEEDED``."""


@dataclass(frozen=True)
class Plan:
    """What the sides are put through. ``seconds``: a turn begins no request after this."""

    steps: int
    clients: Sequence[int]
    seconds: float
    sides: str = "abc"
    rounds: int = 2
    batch: int = 8  # side c
    wait_ms: float = 20.0


Play = Callable[[Side], Turn]


def measure(served: ServedModel, plan: Plan, results: Results, budget: Budget) -> None:
    """Start the sides that can run here, compare their pictures, and put them through the loads in turns."""
    if not budget.allows(LEAST_S):
        results.leave_out(f"{served.name}: all servers", "no time left")
        return
    with ExitStack() as stack:
        sides = _start(served, plan, results, stack)
        if not sides:
            return
        results.sides[served.name] = {side.name: side.label for side in sides}
        cases = full(plan.steps, TOGETHER, served.size_px)
        results.section(f"{served.name}: pictures", partial(_compare, served.name, sides, cases, results))
        Loads(served, sides, plan, cases, results, budget).run()


def _compare(model: str, sides: Sequence[Side], cases: Sequence[Case], results: Results) -> None:
    results.agreements += agreements(model, sides, cases)  # a warm-up too: alone and in batches


def _start(served: ServedModel, plan: Plan, results: Results, stack: ExitStack) -> list[Side]:
    """One side that cannot be started does not keep the others from it."""
    sides: list[Side] = []
    for name in plan.sides:
        for variant in VARIANTS[name]:
            what = f"{served.name}: side {name} ({variant})"
            if why := missing(variant):
                results.leave_out(what, why)
                continue
            try:
                sides += stack.enter_context(_running(variant, name, served, plan, results.folder / "logs"))
                break
            except Exception as error:
                log = getattr(error, "log", None)  # launch.errors.LaunchError names one
                why = f"{type(error).__name__}: {error}"
                results.leave_out(what, f"{why}\n{tail(log)}" if log else why, failed=True)
    return sides


def _running(
    variant: str, name: str, served: ServedModel, plan: Plan, logs: Path
) -> AbstractContextManager[list[Side]]:
    if variant == "engine":
        from bench.gpu.in_process import running_engine

        return running_engine(served)
    return running_sides(name, logs, plan.batch, plan.wait_ms, served)


class Loads:
    """Turns of all sides under each load; figures are written after each go-round."""

    def __init__(
        self,
        served: ServedModel,
        sides: Sequence[Side],
        plan: Plan,
        cases: Sequence[Case],
        results: Results,
        budget: Budget,
    ) -> None:
        self.served, self.sides, self.plan, self.cases = served, sides, plan, cases
        self.results, self.budget = results, budget
        self.turns: dict[str, dict[str, list[Turn]]] = {}
        self.took_s: dict[str, float] = {}

    def run(self) -> None:
        """Every closed loop once, then the Poisson arrivals, then all again."""
        limits = Limits(self.plan.seconds, 1000)
        loads: dict[str, Play] = {
            f"{clients} clients": partial(closed, cases=self.cases, clients=clients, limits=limits)
            for clients in self.plan.clients
        }
        for number in range(self.plan.rounds):
            for load, play in list(loads.items()):
                self._go_round(load, play, number)
            if number == 0 and self.turns:
                load, play = self._poisson()
                loads[load] = play
                self._go_round(load, play, number)

    def _poisson(self) -> tuple[str, Play]:
        """Arrivals that b can bear; where b is missing, that the slowest side can."""
        found = [{name: figures(turns).images_per_s for name, turns in sides.items()} for sides in self.turns.values()]
        rate = SHARE_OF_B * max(by_side.get("b", min(by_side.values())) for by_side in found)
        requests = max(LEAST_ARRIVALS, round(2 * self.plan.seconds * rate))
        return f"{rate:.3f}/s Poisson", partial(poisson, cases=self.cases, rate=rate, requests=requests)

    def _go_round(self, load: str, play: Play, number: int) -> None:
        """A turn of each side, if there is time; each round begins with another side."""
        known = f"{self.served.name}: {load}, round {number + 1}"
        expected_s = self.took_s.get(load, 2 * max(self.took_s.values(), default=0.0))
        if not self.budget.allows(expected_s):
            self.results.leave_out(known, "no time left")
            return
        self.results.say(known)
        began, first = time.monotonic(), number % len(self.sides)
        for side in [*self.sides[first:], *self.sides[:first]]:
            turn = play(side)
            if turn.latencies_s:
                self.turns.setdefault(load, {}).setdefault(side.name, []).append(turn)
            else:
                self.results.leave_out(f"{known}, side {side.name}", f"no image: {turn.errors[:1]}", failed=True)
        self.took_s[load] = time.monotonic() - began
        self._write()

    def _write(self) -> None:
        self.results.loads[self.served.name] = [
            Cell(f"{self.served.size_px} px", load, self.plan.steps, _in_order(sides))
            for load, sides in self.turns.items()
        ]
        self.results.save()


def _in_order(sides: dict[str, list[Turn]]) -> dict[str, Figures]:
    return {name: figures(sides[name]) for name in sorted(sides)}
