"""The figures of a run, as a table with ratios."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.record import Record
from bench.throughput.clients import Turn

FORMATS = {
    "images": ("images", "d"),
    "errors": ("errors", "d"),
    "images/s": ("images_per_s", ".3f"),
    "core ms": ("core", ".0f"),
    "p50 ms": ("p50", ".0f"),
    "p95 ms": ("p95", ".0f"),
    "p99 ms": ("p99", ".0f"),
    "outside %": ("outside", ".1f"),
}
"""A column -> its field of ``Figures``, and how it is written."""
COMPARED = ("images/s", "core ms", "p50 ms", "p95 ms")


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


def table(cells: Sequence[Cell]) -> Record:
    """One row a load: each side's figures, and what side a is of each other side: more images/s is better, less time.

    A side that a load lacks is a dash.
    """
    sides = list(dict.fromkeys(name for cell in cells for name in cell.sides))
    others = [name for name in sides if name != "a"] if "a" in sides else []
    columns = ["workload", "load"]
    for title in FORMATS:
        columns += [f"{title} {', '.join(sides)}", *(f"{title} a/{name}" for name in others if title in COMPARED)]
    record = Record(columns)
    for cell in cells:
        figures = [figure for title in FORMATS for figure in _figures(cell, title, sides, others)]
        record.rows.append([cell.workload, cell.load, *figures])
    return record


def _figures(cell: Cell, title: str, sides: Sequence[str], others: Sequence[str]) -> list[str]:
    name, form = FORMATS[title]
    found = {side: getattr(of, name) for side, of in cell.sides.items()}
    shown = ", ".join(format(found[side], form) if side in found else "-" for side in sides)
    ratios = [_ratio(found.get("a"), found.get(other)) for other in others if title in COMPARED]
    return [shown, *ratios]


def _ratio(mine: float | None, other: float | None) -> str:
    return f"{mine / other:.2f}x" if mine and other else "-"
