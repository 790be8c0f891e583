"""Random adapters for a pipeline's attention layers, written in each of the three namings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from jobs.loras import LoraFile, LoraFolder

RANK = 4
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "v_proj", "out_proj", "proj_in", "conv1")

Matrices = Mapping[tuple[str, str], tuple[torch.Tensor, torch.Tensor]]
"""Part of the pipeline and layer -> A (rank, inputs), B (outputs, rank)."""


def matrices(pipeline: Any, seed: int = 0, only: str = "", uneven: bool = False) -> Matrices:
    """A and B, Gaussian, for the attention and some convolutions of every part that takes adapters, or of one.

    All of rank RANK, or of RANK and the two below it in turn.
    """
    generator = torch.Generator().manual_seed(seed)
    made: dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]] = {}
    for part in pipeline._lora_loadable_modules:
        if getattr(pipeline, part, None) is None or not part.startswith(only):
            continue
        for name, layer in getattr(pipeline, part).named_modules():
            if not name.endswith(ATTENTION) or not isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                continue
            rank = RANK - len(made) % 3 if uneven else RANK
            outputs, inputs, *kernel = layer.weight.shape
            down = torch.randn(rank, inputs, *kernel, generator=generator) * 0.3
            up = torch.randn(outputs, rank, *[1 for _ in kernel], generator=generator) * 0.3
            made[part, name] = (down, up)
    assert made
    return made


def merge(pipeline: Any, layers: Matrices, scale: float, alpha: float) -> None:
    """Add ``scale * alpha / rank * B A`` to the weights themselves: what an adapter is to amount to."""
    for (part, name), (down, up) in layers.items():
        weight = getattr(pipeline, part).get_submodule(name).weight
        update = up.flatten(1) @ down.flatten(1)  # (outputs, inputs * kernel)
        weight.data += scale * alpha / len(down) * update.view_as(weight)


def save_diffusers(file: Path, layers: Matrices, metadata: dict[str, str] | None = None) -> Path:
    tensors = {}
    for (part, name), (down, up) in layers.items():
        tensors[f"{part}.{name}.lora_A.weight"], tensors[f"{part}.{name}.lora_B.weight"] = down, up
    save_file(tensors, file, metadata)
    return file


def save_peft(file: Path, layers: Matrices) -> Path:
    tensors = {}
    for (_, name), (down, up) in layers.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = down
        tensors[f"base_model.model.{name}.lora_B.weight"] = up
    save_file(tensors, file)
    return file


def save_kohya(file: Path, layers: Matrices, alpha: float = RANK) -> Path:
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}
    tensors = {}
    for (part, name), (down, up) in layers.items():
        flat = prefixes[part] + name.removeprefix("text_model.").replace(".", "_")
        tensors[f"{flat}.lora_down.weight"], tensors[f"{flat}.lora_up.weight"] = down, up
        tensors[f"{flat}.alpha"] = torch.tensor(alpha)
    save_file(tensors, file)
    return file


def describe(path: Path) -> LoraFile:
    """What an adapter's file says of itself, in a folder of its own."""
    return LoraFolder(str(path.parent)).describe(path)
