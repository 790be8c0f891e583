"""A training run on disk: its recipe, the checkpoint it goes on from, the files it saw."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn


@dataclass
class TrainingState:
    """All that changes during a run. Every random number follows from seed and `step`, so this is enough to go on."""

    modules: Mapping[str, nn.Module]
    means: Mapping[str, EMAModel]
    optimizer: torch.optim.Optimizer
    step: int = 0

    @classmethod
    def start(cls, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> TrainingState:
        return cls(modules, {name: EMAModel(m.parameters(), foreach=True) for name, m in modules.items()}, optimizer)

    @property
    def averages(self) -> dict[str, dict[str, Tensor]]:
        """Module -> parameter -> its average, as the checkpoint holds them."""
        return {
            name: dict(zip(_names(module), self.means[name].shadow_params, strict=True))
            for name, module in self.modules.items()
        }

    def average(self, decay: float) -> None:
        """Move the exponential average of the weights by diffusers' EMAModel.

        It keeps `min(decay, (1 + step) / (10 + step))` of itself: early on it forgets faster.
        """
        for name, module in self.modules.items():
            mean = self.means[name]
            mean.decay, mean.optimization_step = decay, self.step
            mean.step(module.parameters())

    def save(self, path: Path) -> None:
        """Writes the checkpoint beside its place and renames it, so that a crash leaves the old or the new one."""
        state = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "averages": self.averages,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def restore(self, path: Path) -> None:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
            averages = state["averages"][name]
            self.means[name].load_state_dict({"shadow_params": [averages[key] for key in _names(module)]})
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def _names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]


def take_averages(path: Path, modules: Mapping[str, nn.Module]) -> None:
    """Gives the modules the averaged weights of another run's checkpoint."""
    averages = torch.load(path, weights_only=True)["averages"]
    for name, module in modules.items():
        module.load_state_dict(averages[name])


def learning_rate(step: int, total: int, peak: float, warm_up: int) -> float:
    """Linear up to `peak`, then half a cosine down to zero at `total`.

    diffusers' `get_cosine_schedule_with_warmup` begins at a rate of zero, so that the first step would teach nothing.
    """
    if step < warm_up:
        return peak * (step + 1) / warm_up
    share = min((step - warm_up) / max(total - warm_up, 1), 1.0)
    return peak * 0.5 * (1 + math.cos(math.pi * share))


def plateau_rate(step: int, total: int, peak: float, warm_up: int, cool_down: int) -> float:
    """Linear up to `peak`, level, then linearly down to zero over the last `cool_down` steps before `total`.

    Unlike half a cosine it does not ask for the number of steps before the run's last part begins.
    """
    return peak * max(min((step + 1) / warm_up, (total - step) / cool_down, 1.0), 0.0)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """`rate` times a group's own `factor`, where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


def record_files_seen(folder: Path, files: Iterable[str]) -> None:
    """Adds to `files.json`, the list of every photo that a run in this folder could draw."""
    path = folder / "files.json"
    known = set(json.loads(path.read_text())) if path.exists() else set()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sorted(known | set(files)), indent=0))
