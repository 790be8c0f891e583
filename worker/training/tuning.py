"""The training of a model of the catalog, or of an adapter for it, on a folder of photos."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from tqdm import tqdm

from worker.training.composition import COUNT, FROM_ZERO, POSITIVE, SHARE, Batch, Choices, Composer, Range, choice
from worker.training.lora import Layers
from worker.training.loss import simple_loss
from worker.training.run import TrainingState, learning_rate, record_files_seen, set_learning_rate
from worker.training.sheet import loss_curve, sample_sheet

LAYERS: Range = (lambda value: value in get_args(Layers), "attention or all")


@dataclass(frozen=True, kw_only=True)
class TuneRecipe(Choices):
    """What decides the result of a run, besides the model and the photos."""

    steps: int = choice(1000, COUNT, "steps of the optimizer; the learning rate falls to zero over them")
    accumulate: int = choice(1, COUNT, "batches whose gradients make one step")
    peak_rate: float = choice(1e-5, POSITIVE, "highest learning rate")
    warm_up: int = choice(50, FROM_ZERO, "steps over which the learning rate rises")
    decay: float = choice(0.99, SHARE, "of the running average of the weights, which is what is saved")
    save_every: int = choice(100, COUNT, "steps between checkpoints")
    sample_every: int = choice(250, COUNT, "steps between sample sheets")


@dataclass(frozen=True, kw_only=True)
class LoraRecipe(TuneRecipe):
    """The same for an adapter."""

    peak_rate: float = choice(1e-4, POSITIVE, "highest learning rate")
    rank: int = choice(8, COUNT, "rank of the update of each layer")
    layers: Layers = choice("attention", LAYERS, "which layers learn: attention, or all of the blocks")  # noqa: RUF009


class Diverged(Exception):
    """The loss is no number any more."""


class Tuning:
    """A run in a folder: goes on from its checkpoint if there is one.

    Args:
        composer: draws the batches for the model.
        trained: the parameters that learn; the others are frozen.
        recipe: with which the folder's earlier part, if any, was run too. Raises ValueError if it was another one.
        folder: gets `checkpoint.pt`, `recipe.json`, `files.json`, `losses.csv`, `loss.png`, `samples-*.png`.
        keep: writes the result; called with the averaged weights in place.
    """

    def __init__(
        self,
        composer: Composer,
        trained: list[nn.Parameter],
        recipe: TuneRecipe,
        folder: Path,
        keep: Callable[[], object],
    ) -> None:
        self.composer, self.trained, self.recipe, self.folder, self.keep = composer, trained, recipe, folder, keep
        optimizer = torch.optim.AdamW(trained, lr=recipe.peak_rate, weight_decay=1e-2, fused=True)
        self.progress = TrainingState.start({"trained": nn.ParameterList(trained)}, optimizer)
        self.losses: list[float] = []
        _same_recipe(recipe, folder / "recipe.json")
        if self._checkpoint.exists():
            self.progress.restore(self._checkpoint)
            self.losses = _read_losses(folder / "losses.csv")[: self.progress.step]
        record_files_seen(folder, composer.corpus.files)

    def run(self, stop_at: int | None = None, stopped: Callable[[], bool] = lambda: False) -> None:
        """Trains to the recipe's last step, to `stop_at`, or until `stopped`; what was done is saved then."""
        end = min(self.recipe.steps, stop_at or self.recipe.steps)
        if not self.progress.step:
            self._show()
        with tqdm(total=end, initial=self.progress.step, desc="training", mininterval=1) as bar:
            while self.progress.step < end and not stopped():
                self.losses.append(self._step())
                bar.update()
                bar.set_postfix(loss=f"{sum(self.losses[-50:]) / len(self.losses[-50:]):.4f}", refresh=False)
                if self.progress.step % self.recipe.sample_every == 0 or self.progress.step == self.recipe.steps:
                    self._show()
                if self.progress.step % self.recipe.save_every == 0:
                    self._save()
        self._save()

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _step(self) -> float:
        """One step of the optimizer over `accumulate` batches; returns their mean loss."""
        recipe, progress = self.recipe, self.progress
        rate = learning_rate(progress.step, recipe.steps, recipe.peak_rate, recipe.warm_up)
        set_learning_rate(progress.optimizer, rate)
        progress.optimizer.zero_grad()
        total = 0.0
        for part in range(recipe.accumulate):
            loss = self._loss(self.composer.draw(progress.step, part)) / recipe.accumulate
            torch.autograd.backward(loss)
            total += loss.item()
        if not math.isfinite(total):
            raise Diverged(f"the loss is {total} at step {progress.step}; try a smaller --peak-rate")
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        progress.optimizer.step()
        progress.step += 1
        progress.average(recipe.decay)
        return total

    def _loss(self, batch: Batch) -> Tensor:
        """The simple loss of each example, over the cells that count, and its weight by noise level."""
        family = self.composer.family
        with mixed_precision(family.device):
            output = family.forward(batch.inputs, batch.timestep, batch.conditioning).float()
        rows = zip(output, batch.target, batch.cell_weight, strict=True)
        losses = torch.stack([simple_loss(*row) for row in rows])
        return (losses * batch.row_weight).mean()

    def _save(self) -> None:
        self.progress.save(self._checkpoint)
        _write_losses(self.folder / "losses.csv", self.losses)
        if self.losses:
            loss_curve(self.losses, self.folder / "loss.png")
        with averaged(self.trained, self.progress):
            self.keep()

    def _show(self) -> None:
        with averaged(self.trained, self.progress):
            sample_sheet(self.composer, self.folder / f"samples-{self.progress.step:06d}.png")


def mixed_precision(device: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 for products and convolutions on a GPU; nothing on a CPU, where it is slower."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


@contextmanager
def averaged(trained: list[nn.Parameter], progress: TrainingState) -> Iterator[None]:
    """The running average in place of the weights."""
    mean = progress.means["trained"]
    mean.store(trained)
    mean.copy_to(trained)
    try:
        yield
    finally:
        mean.restore(trained)


def _same_recipe(recipe: TuneRecipe, path: Path) -> None:
    """Notes the recipe of a new run; a run goes on with its own. Raises ValueError."""
    now = dataclasses.asdict(recipe)
    if path.exists() and (differing := _differing(json.loads(path.read_text()), now)):
        raise ValueError(f"{path.parent} holds a run of another recipe ({differing}); choose another folder with --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(now, indent=1) + "\n")


def _differing(before: dict[str, Any], now: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {before.get(name)}, not {value}" for name, value in now.items() if before.get(name) != value
    )


def _read_losses(path: Path) -> list[float]:
    with path.open(newline="") as lines:
        return [float(loss) for _, loss in list(csv.reader(lines))[1:]]


def _write_losses(path: Path, losses: list[float]) -> None:
    rows = [f"{step},{loss!r}" for step, loss in enumerate(losses, start=1)]
    path.write_text("\n".join(["step,loss", *rows]) + "\n")
