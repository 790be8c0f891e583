"""`lora` and `model`: the commands behind `infill train`."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pydantic import ValidationError

from jobs.catalog import ModelEntry, load_catalog
from jobs.errors import InfillError
from jobs.schema import InpaintRequest
from worker.families.latent_diffusion import LatentDiffusion
from worker.models.loading import Loader
from worker.settings import WorkerSettings
from worker.training.composition import Composer
from worker.training.lora import add_lora, save_lora
from worker.training.photo_folder import load_folder
from worker.training.tuning import Diverged, LoraRecipe, TuneRecipe, Tuning

INTERRUPTED = 130
"""Exit status of a run that was asked to stop, as the shell has it for Ctrl-C."""


def add_tuning_commands(commands: Any) -> None:
    for name, recipe, text in (
        ("lora", LoraRecipe, "train a LoRA adapter for a model of the catalog on a folder of photos"),
        ("model", TuneRecipe, "train the network of a model of the catalog itself"),
    ):
        command = commands.add_parser(name, help=text, description=text, prog=f"infill train {name}")
        command.set_defaults(command=_run, recipe=recipe)
        command.add_argument("--model", required=True, help="its name in the catalog (INFILL_CATALOG)")
        command.add_argument("--images", type=Path, required=True, help="photos, captions in NAME.txt beside NAME.jpg")
        command.add_argument("--out", type=Path, required=True, help="folder of the run; called again, it goes on")
        command.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's own choice (%(default)s)")
        for field in dataclasses.fields(recipe):
            command.add_argument(
                "--" + field.name.replace("_", "-"),
                type=type(field.default),
                default=field.default,
                help=f"{field.metadata['help']} (%(default)s)",
            )


def _run(arguments: argparse.Namespace) -> int:
    names = [field.name for field in dataclasses.fields(arguments.recipe)]
    try:
        recipe = arguments.recipe(**{name: getattr(arguments, name) for name in names})
        return train(arguments.model, arguments.images, arguments.out, recipe)
    except (InfillError, Diverged, ValueError, OSError) as error:
        print(f"infill train: {_sentence(error)}", file=sys.stderr)
        return 1


def train(model: str, images: Path, out: Path, recipe: TuneRecipe) -> int:
    """Trains, or goes on with the run in `out`; Ctrl-C saves and stops at the next step. Returns the exit status."""
    family, entry = load_for_training(model, whole=not isinstance(recipe, LoraRecipe))
    recipe = dataclasses.replace(recipe, size_px=recipe.size_px or entry.size_px)
    trained, keep, result = _learner(family, recipe, out)
    request = entry.resolve(model, InpaintRequest(seed=0))
    composer = Composer(family, load_folder(images, recipe.size_px), request, recipe)
    tuning = Tuning(composer, trained, recipe, out, keep)
    stopped = _stop_signal()
    tuning.run(stopped=stopped)
    step = tuning.progress.step
    print(f"step {step} of {recipe.steps}: {result}; loss.png and samples-*.png beside it")
    if step == recipe.steps:
        return 0
    print("stopped; the same command goes on from here")
    return INTERRUPTED


def load_for_training(model: str, whole: bool) -> tuple[LatentDiffusion, ModelEntry]:
    """A model on its device. What learns is float32; the frozen rest of a LoRA may have the dtype it is served in."""
    settings = WorkerSettings().model_copy(update={"offload": "none", "encoding_budget_bytes": 0})
    entry, loader = load_catalog(settings.catalog).model(model), Loader(settings)
    if whole or loader.device.type == "cpu":
        entry = entry.model_copy(update={"dtype": "float32"})
    family = loader.load(model, entry)
    assert isinstance(family, LatentDiffusion)
    for part in family.pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False)
    return family, entry


def _learner(
    family: LatentDiffusion, recipe: TuneRecipe, out: Path
) -> tuple[list[torch.nn.Parameter], Callable[[], object], Path]:
    """What learns, how it is kept, and where."""
    network = family.network
    network.train()
    if isinstance(recipe, LoraRecipe):
        trained, adapter = add_lora(network, recipe.rank, recipe.seed, recipe.layers), out / f"{out.name}.safetensors"
        return trained, lambda: save_lora(family.pipeline, family.network_part, adapter), adapter
    network.requires_grad_(True)
    return list(network.parameters()), lambda: family.pipeline.save_pretrained(out / "model"), out / "model"


def _stop_signal() -> Callable[[], bool]:
    """Whether the end was asked for; a second Ctrl-C ends at once, without saving."""
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    return lambda: bool(asked)


def _sentence(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return str(error)
