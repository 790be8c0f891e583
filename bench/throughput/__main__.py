"""This service beside the servers one would write instead: ``python -m bench.throughput``.

a: Infill (Redis, API, one worker). b: FastAPI, diffusers' pipeline, a lock, Pillow. c: b with LitServe's dynamic
batching. The same photos, masks, seeds and steps for all, in short turns that go round, so that what else the machine
does hits all alike; every answer is checked. Ratios are a over the other: more images/s is better, less latency.
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.machine import describe
from bench.record import keep_option
from bench.throughput.clients import Limits, Turn, closed, poisson
from bench.throughput.report import Cell, Figures, figures, table
from bench.throughput.sides import Side, running_sides
from bench.throughput.workload import WORKLOADS

LOGS = Path("var/throughput")


def main() -> None:
    chosen = _arguments()
    threads = {"OMP_NUM_THREADS": str(chosen.threads), "INFILL_TORCH_THREADS": str(chosen.threads)}
    fair = {"INFILL_ENCODING_BUDGET_BYTES": "0"}  # the same few photos come again and again; the others keep nothing
    os.environ.update({"INFILL_MAX_WAIT_S": "600", **threads, **fair})
    machine = f"{describe()}, {chosen.threads} threads"
    with running_sides([*chosen.sides, *chosen.before], LOGS, chosen.batch, chosen.wait_ms) as sides:
        cells = measure(sides, chosen)
    record = table(cells)
    record.machine = machine  # its load before, not that of the servers
    record.notes = [f"{chosen.steps} steps, {chosen.rounds} rounds; side c: batches of {chosen.batch}."]
    record.finish(chosen.keep)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.throughput", description=__doc__, parents=[keep_option()])
    parser.add_argument("--sides", default="abc", help="letters of the sides; default abc")
    parser.add_argument("--before", nargs=1, default=[], metavar="FOLDER", help="one side more: this other checkout")
    parser.add_argument("--workloads", nargs="+", choices=["full", "realistic"], default=["full", "realistic"])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8, 16], help="closed loops of so many callers")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each side under each load")
    parser.add_argument("--seconds", type=float, default=10, help="a turn begins no request after this")
    parser.add_argument("--requests", type=int, default=20, help="requests of one client in a turn at most")
    parser.add_argument("--open", type=int, default=0, help="Poisson arrivals in a turn; 0: no open loop")
    parser.add_argument("--share", type=float, default=0.7, help="open loop: arrivals as a share of what b can do")
    parser.add_argument("--threads", type=int, default=2, help="torch threads of every side")
    parser.add_argument("--batch", type=int, default=8, help="side c: largest batch")
    parser.add_argument("--wait-ms", type=float, default=20, help="side c: longest wait for a batch to fill")
    return parser.parse_args()


def measure(sides: Sequence[Side], chosen: argparse.Namespace) -> list[Cell]:
    """Every workload under every load."""
    limits = Limits(chosen.seconds, chosen.requests)
    cells: list[Cell] = []
    for workload in chosen.workloads:
        cases = WORKLOADS[workload](chosen.steps)
        for side in sides:
            closed(side, cases[:1], 1, Limits(0, 1))  # a warm-up, not counted

        def add(load: str, play: Callable[[Side], Turn], workload: str = workload) -> Cell:
            cells.append(Cell(workload, load, chosen.steps, interleaved(sides, chosen.rounds, play)))
            print(table(cells[-1:]).table(), file=sys.stderr, flush=True)
            return cells[-1]

        capacity = 0.0
        for clients in chosen.clients:
            cell = add(f"{clients} clients", functools.partial(closed, cases=cases, clients=clients, limits=limits))
            capacity = max(capacity, cell.sides.get("b", next(iter(cell.sides.values()))).images_per_s)
        if chosen.open:
            rate = chosen.share * capacity
            arrive = functools.partial(poisson, cases=cases, rate=rate, requests=chosen.open)
            add(f"{rate:.3f}/s Poisson", arrive)
    return cells


def interleaved(sides: Sequence[Side], rounds: int, play: Callable[[Side], Turn]) -> dict[str, Figures]:
    """A turn of each side, again and again; each round begins with another side."""
    turns: dict[str, list[Turn]] = {side.name: [] for side in sides}
    for number in range(rounds):
        first = number % len(sides)
        for side in [*sides[first:], *sides[:first]]:
            turns[side.name].append(play(side))
    return {name: figures(played) for name, played in turns.items()}


if __name__ == "__main__":
    main()
