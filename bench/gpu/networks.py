"""The networks of each model, alone: what a call costs, by size and rows."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import DiffusionPipeline

from bench.gpu.budget import Budget
from bench.gpu.models import OPENERS, Opener, Place, quiet
from bench.gpu.results import Results
from bench.gpu.steps import PARTS, Measured, cells, ideal_images_per_s
from bench.served_model import ServedModel

VAE_ROWS = (1, 4)


@dataclass(frozen=True)
class Wanted:
    """``steps`` are those of an image, for the ideal."""

    models: Sequence[str]
    sizes_px: Sequence[int]
    rows: Sequence[int]
    steps: int


def measure(wanted: Wanted, place: Place, results: Results, budget: Budget) -> list[ServedModel]:
    """Measure each model's networks; returns what there is to be served."""
    quiet()
    served: list[ServedModel] = []
    for number, name in enumerate(wanted.models):
        share = budget.part(1 / (len(wanted.models) - number))
        section = partial(_network, wanted, place, OPENERS[name], served, results, share)
        results.section(f"{name}: networks", section)
        _free()
    return served


def _network(
    wanted: Wanted, place: Place, opener: Opener, served: list[ServedModel], results: Results, budget: Budget
) -> None:
    """The size that the model was made for comes first, with its VAE: they say what is possible."""
    pipeline, model = opener(place)
    served.append(model)
    _as_the_engine_runs_it(pipeline)
    measured, peak = Measured(model.name, pipeline, place.device, place.dtype), results.peak(place.dtype_name)
    sizes = sorted(wanted.sizes_px, key=lambda size_px: size_px != model.size_px)
    todo = [("step", sizes[0], wanted.rows)]
    todo += [(part, sizes[0], VAE_ROWS) for part in PARTS if part != "step"]
    todo += [("step", size_px, wanted.rows) for size_px in sizes[1:]]
    for part, size_px, rows in todo:
        before = len(results.cells)
        for cell in cells(measured, part, size_px, rows, peak, budget):
            results.cells.append(cell)
        if rest := rows[len(results.cells) - before :]:
            results.leave_out(f"{model.name}: {part}, {size_px} px, {list(rest)} rows", "no time or no memory")
        results.save()
    calls = wanted.steps * (2 if model.guidance_scale > 1 else 1)
    if ideal := ideal_images_per_s(results.cells, peak, model.name, model.size_px, calls):
        results.ideals[model.name] = ideal


def _as_the_engine_runs_it(pipeline: DiffusionPipeline) -> None:
    """``worker.models.loading`` does so, too."""
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
