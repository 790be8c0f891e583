"""A compiler that counts: torch's own tracing, whose graphs are then run as they are."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from jobs.catalog import ModelEntry
from tests.factories import model_entry
from tests.worker import tiny
from worker.engine.compiling import SERVING, Compiler
from worker.families.latent_diffusion import LatentDiffusion
from worker.settings import WorkerSettings


class Graphs:
    """Counts the graphs that are made, and the rows of their calls; ``on_call`` is told of each.

    torch uses a graph only with the backend that made it, so there is one for the process: ``GRAPHS``.
    """

    def __init__(self) -> None:
        self.made = 0
        self.rows: list[int] = []
        self.on_call: Callable[[int], object] = int

    def __call__(self, graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        self.made += 1

        def run(*arguments: Any) -> Any:
            outputs = graph.forward(*arguments)
            rows = len(outputs[0])
            self.rows.append(rows)
            self.on_call(rows)
            return outputs

        return run


GRAPHS = Graphs()


def entry_of(family: str, max_size_px: int = tiny.SIZE) -> ModelEntry:
    scheduler = next(iter(tiny.FAMILIES[family].schedulers))
    sizes = {"size_px": tiny.SIZE, "max_size_px": max_size_px}
    return model_entry(family=family, num_inference_steps=4, scheduler=scheduler, **sizes)


def compile_model(
    model: LatentDiffusion, max_rows: int = 1, max_size_px: int = tiny.SIZE, on_call: Callable[[int], object] = int
) -> int:
    """Compile a model as at the start of a worker of so many rows. Returns how many graphs that took."""
    before, GRAPHS.on_call = GRAPHS.made, on_call
    compiler = Compiler(WorkerSettings(max_rows=max_rows), lambda *_: [], backend=GRAPHS)
    compiler(model, entry_of(model.family, max_size_px))
    GRAPHS.on_call = int
    GRAPHS.rows.clear()
    return GRAPHS.made - before


def served() -> Any:
    """Inside, torch compiles nothing more, as in a worker that serves."""
    return torch.compiler.set_stance(SERVING)
