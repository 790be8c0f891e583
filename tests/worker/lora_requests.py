"""Requests with adapters on a tiny model, as ``worker.engine.session.Session`` takes them."""

from pathlib import Path

import torch

from jobs.loras import LoraFolder
from jobs.schema import InpaintParameters, LoraChoice
from tests.worker import tiny
from tests.worker.runs import canvas, no_clock, parameters
from worker.denoise.state import DenoiseState
from worker.engine.engine import Engine
from worker.families.latent_diffusion import LatentDiffusion
from worker.models.adapters import Adapters

PLENTY = 2**30


def engine_of(model: LatentDiffusion, folder: Path, budget_bytes: int = PLENTY) -> Engine:
    return Engine({"tiny": model}, 8, Adapters(LoraFolder(str(folder)), budget_bytes))


def choices(**scales: float) -> tuple[LoraChoice, ...]:
    return tuple(LoraChoice(name=name, scale=scale) for name, scale in scales.items())


def begin(engine: Engine, wanted: InpaintParameters, *chosen: LoraChoice) -> DenoiseState:
    model = engine.models["tiny"]
    adapters = engine.adapters.choose(chosen)
    engine.set_adapters(model, adapters)
    state: DenoiseState = model.prepare(canvas(wanted.seed), wanted, no_clock, adapters)[0]
    engine.join([state])
    return state


def finish(engine: Engine) -> None:
    while engine.live:
        engine.step()


def latents(engine: Engine, wanted: InpaintParameters, *chosen: LoraChoice) -> torch.Tensor:
    state = begin(engine, wanted, *chosen)
    finish(engine)
    assert state.error is None, state.error
    return state.latents


def job(seed: int = 7, family: str = "sd") -> InpaintParameters:
    """A job that the family's tiny model can run."""
    return parameters(next(iter(tiny.FAMILIES[family].schedulers)), 1.0, seed)
