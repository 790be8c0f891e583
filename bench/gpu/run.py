"""The sections of a run, one after another, each within its share of the time."""

import argparse
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from bench.gpu.budget import Budget
from bench.gpu.packages import missing
from bench.gpu.plot import draw
from bench.gpu.rates import matrix_rate
from bench.gpu.report import markdown
from bench.gpu.results import Results
from bench.machine import describe
from bench.served_model import ServedModel

END_S = 20.0
"""Kept back for the last servers' end, the table and the plot."""
NETWORK_SHARE = 0.35
"""Of the time for the networks alone; the rest is for the servers."""


@dataclass(frozen=True)
class Scale:
    """How much is measured. ``matrix_sides``: of the products; () for those that suit the device."""

    models: Sequence[str]
    sizes_px: Sequence[int]
    rows: Sequence[int]
    clients: Sequence[int]
    turn_s: float
    rounds: int
    steps: int = 20
    sides: str = "abc"
    dtype: str | None = None
    matrix_sides: Sequence[int] = ()

    def chosen(self, arguments: argparse.Namespace) -> "Scale":
        """This scale with what the command line says otherwise."""
        said = {"models": arguments.models, "sizes_px": arguments.sizes, "rows": arguments.rows}
        said |= {name: getattr(arguments, name) for name in ("clients", "sides", "steps", "dtype")}
        return replace(self, **{name: value for name, value in said.items() if value is not None})


FULL = Scale(("sd15", "sdxl"), (512, 768, 1024), (1, 2, 4, 8, 16), (1, 8, 16), turn_s=6, rounds=2)
SMALL = Scale(("pocket",), (128, 256, 512), (1, 2, 4, 8), (1, 8), turn_s=5, rounds=1)


def run(scale: Scale, out: Path, scratch: Path, seconds: float, began: float) -> Results:
    """Everything, as far as the time goes. ``scratch`` takes the random models' files."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = getattr(torch, scale.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
    machine = describe() if device.type == "cuda" else f"{describe()}, {torch.get_num_threads()} threads"
    results = Results(out, machine, str(device), str(dtype).removeprefix("torch."), began=began)
    budget = Budget(seconds - END_S, began)
    results.section("matrix rate", lambda: _rates(scale, device, dtype, results))
    served = _networks(scale, (device, dtype, scratch), results, budget.part(NETWORK_SHARE))
    for number, model in enumerate(served):
        share = budget.part(1 / (len(served) - number))
        results.section(f"{model.name}: servers", partial(_servers, scale, model, results, share))
    _finish(results)
    return results


def _rates(scale: Scale, device: torch.device, dtype: torch.dtype, results: Results) -> None:
    for kind in dict.fromkeys((dtype, torch.bfloat16, torch.float32)):
        results.rates.append(matrix_rate(kind, device, scale.matrix_sides))


def _networks(
    scale: Scale, place: tuple[torch.device, torch.dtype, Path], results: Results, budget: Budget
) -> list[ServedModel]:
    if why := missing("networks"):
        results.leave_out("networks and servers", why)
        return []
    from bench.gpu.models import Place
    from bench.gpu.networks import Wanted, measure

    wanted = Wanted(scale.models, scale.sizes_px, scale.rows, scale.steps)
    return measure(wanted, Place(*place), results, budget)


def _servers(scale: Scale, model: ServedModel, results: Results, budget: Budget) -> None:
    if not scale.sides:
        return
    if why := missing("clients"):
        results.leave_out(f"{model.name}: all servers", why)
        return
    from bench.gpu.loads import Plan, measure

    try:
        measure(model, Plan(scale.steps, scale.clients, scale.turn_s, scale.sides, scale.rounds), results, budget)
    finally:
        for log in Path(os.environ.get("INFILL_VAR_DIR", "var")).glob("bench-*/log/worker-1.log"):
            shutil.copy(log, results.folder / "logs" / f"{model.name}-worker.log")


def _finish(results: Results) -> None:
    if why := missing("plot"):
        results.leave_out("plot", why)
    else:
        results.section("plot", lambda: draw(results, results.folder / "gpu.png"))
    text = markdown(results)
    (results.folder / "gpu.md").write_text(text + "\n")
    print(text, flush=True)
