"""The figures of a run, as a table with ratios and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from bench.serve.clients import Turn


@dataclass(frozen=True)
class Figures:
    """One side under one load, over all its turns. Latencies in ms. ``core``: ms of processor time an image, of all the
    side's processes; ``outside``: % of the pixels to be kept that were changed."""

    images: int
    errors: int
    images_per_s: float
    core: float
    p50: float
    p95: float
    p99: float
    outside: float


@dataclass(frozen=True)
class Cell:
    """One load on every side."""

    workload: str
    load: str
    steps: int
    sides: dict[str, Figures]


def figures(turns: Sequence[Turn]) -> Figures:
    """Turns of one side and load, taken together. Raises ValueError where not one image came."""
    latencies = [latency * 1000 for turn in turns for latency in turn.latencies_s]
    if not latencies:
        raise ValueError(f"no image: {turns[0].errors[:1] if turns else 'no turn'}")
    p50, p95, p99 = (float(np.quantile(latencies, share)) for share in (0.5, 0.95, 0.99))
    changed = [share for turn in turns for share in turn.changed]
    return Figures(
        images=len(latencies),
        errors=sum(len(turn.errors) for turn in turns),
        images_per_s=len(latencies) / sum(turn.span_s for turn in turns),
        core=1000 * sum(turn.processor_s for turn in turns) / len(latencies),
        p50=p50,
        p95=p95,
        p99=p99,
        outside=100 * float(np.mean(changed)) if changed else 0.0,
    )


def table(cells: Sequence[Cell]) -> str:
    """Absolute figures, then what side a is of each other side: images/s more is better, latencies less."""
    columns = [
        "workload",
        "load",
        "side",
        "images",
        "errors",
        "images/s",
        "core ms",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "outside",
    ]
    rows = [columns, ["---"] * len(columns)]
    for cell in cells:
        for name, of in cell.sides.items():
            counted = [str(of.images), str(of.errors), f"{of.images_per_s:.3f}", f"{of.core:.0f}"]
            times = [f"{value:.0f}" for value in (of.p50, of.p95, of.p99)]
            rows.append([cell.workload, cell.load, name, *counted, *times, f"{of.outside:.1f} %"])
        others = [name for name in cell.sides if name != "a"] if "a" in cell.sides else []
        rows += [[cell.workload, cell.load, f"a/{name}", "", "", *_ratios(cell, name), ""] for name in others]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _ratios(cell: Cell, against: str) -> list[str]:
    ours, theirs = cell.sides["a"], cell.sides[against]
    names = ("images_per_s", "core", "p50", "p95", "p99")
    pairs = [(getattr(ours, name), getattr(theirs, name)) for name in names]
    return [f"{mine / other:.2f}x" if mine and other else "" for mine, other in pairs]


def as_json(machine: str, cells: Sequence[Cell]) -> dict[str, object]:
    return {"machine": machine, "cells": [asdict(cell) for cell in cells]}
