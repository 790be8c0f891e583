"""What an adapter adds to each layer of a pipeline: by its file's own numbers, and as peft has it after loading."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from tests.worker import tiny
from tests.worker.loras import describe
from worker.denoise.state import Adapter
from worker.models import peft_layers

AB, DOWN_UP = (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight")
Deltas = Mapping[tuple[str, str], torch.Tensor]
"""Part of the pipeline and layer -> what is added to its weight."""

ALPHAS: tuple[torch.Tensor | None, ...] = (
    torch.tensor(0.5),
    torch.tensor([16.0]),  # one dimension
    None,  # counts as the rank
    torch.tensor(1.0).half(),
    torch.tensor(0.0),
    torch.tensor(8),  # a whole number
    torch.tensor([3.0]).bfloat16(),
)


def pipeline_of(family: str) -> Any:
    known = tiny.FAMILIES[family]
    mode = list(known.pipelines)[-1]
    return tiny.pipeline(family, mode, next(iter(known.schedulers)))


def weights_of(pipeline: Any, parts: str = "") -> dict[tuple[str, str], torch.Tensor]:
    """Weights of every layer that an adapter can change."""
    found = {}
    for part, network in peft_layers.parts_of(pipeline).items():
        for name, module in network.named_modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and part.startswith(parts):
                found[part, name] = module.weight
    return found


def matrices(weights: Mapping[Any, torch.Tensor]) -> dict[Any, tuple[torch.Tensor, torch.Tensor]]:
    """A and B of several ranks."""
    generator, made = torch.Generator().manual_seed(0), {}
    for index, (place, weight) in enumerate(weights.items()):
        outputs, inputs, *kernel = weight.shape
        rank = 1 + index % 4
        down = torch.randn(rank, inputs, *kernel, generator=generator)
        made[place] = (down, torch.randn(outputs, rank, *[1 for _ in kernel], generator=generator))
    return made


def delta(down: torch.Tensor, up: torch.Tensor, scale: float) -> torch.Tensor:
    return (scale * up.flatten(1) @ down.flatten(1)).view(len(up), *down.shape[1:])


def added(layer: Any) -> torch.Tensor:
    """What peft adds to a layer's weight."""
    return delta(layer.lora_A["digest"].weight, layer.lora_B["digest"].weight, layer.scaling["digest"]).detach()


def loaded(pipeline: Any, file: Path) -> Deltas:
    """Load an adapter, put it on, and read off what peft adds to each layer."""
    peft_layers.load(pipeline, describe(file), "digest", peft_layers.widths_of(pipeline))
    peft_layers.set_adapters(peft_layers.tuned_layers(pipeline), (Adapter("digest", file.stem, 1.0),))
    found = {}
    for part, network in peft_layers.parts_of(pipeline).items():
        for name, layer in network.named_modules():
            if isinstance(layer, BaseTunerLayer):
                found[part, name] = added(layer)
    return found


def assert_adds(pipeline: Any, file: Path, expected: Deltas) -> None:
    found = loaded(pipeline, file)
    assert found.keys() == expected.keys()
    for place, wanted in expected.items():
        torch.testing.assert_close(found[place], wanted, msg=f"{place}: {{}}".format)
