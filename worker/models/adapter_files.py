"""What an adapter's file adds to each layer of a model: the two matrices, and the file's own scale."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open

from jobs.errors import BadLora, LoraMismatch
from jobs.lora_layers import NETWORK, Layer, Target, Tensors, Width, targets_of, tensors_of
from jobs.loras import LoraFile

Layers = Mapping[str, tuple[str, str]]
"""A model's layers: ``width_key`` -> part of the pipeline, name of the layer there."""


@dataclass(frozen=True)
class Update:
    """What is added to a layer's weight: ``scale * up @ down``."""

    part: str
    layer: str
    down: torch.Tensor  # (rank, inputs), or (rank, inputs, height, width) of a convolution
    up: torch.Tensor  # (outputs, rank), or (outputs, rank, 1, 1)
    scale: float


def read_updates(file: LoraFile, widths: Mapping[str, Width], layers: Layers) -> list[Update]:
    """Read an adapter for a model.

    Args:
        file: the adapter.
        widths: the model's, as ``worker.models.peft_layers.widths_of`` gives them.
        layers: those of the model; the same keys.

    Raises:
        BadLora: it does not fit the model, cannot be read, or holds a number that is not finite.
    """
    try:
        targets = targets_of(file.layers, widths)
        with safe_open(file.path, framework="pt") as opened:
            names = tensors_of(opened.keys())
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # it is no mapping
        return [_update(file, target, layers[key], names, tensors) for key, target in targets.items()]
    except LoraMismatch as error:
        raise BadLora(f"The adapter {file.name!r} does not fit the model: {error}.") from error
    except (OSError, SafetensorError, KeyError) as error:
        raise BadLora(f"The adapter {file.name!r} cannot be read ({type(error).__name__}).") from error


def _update(
    file: LoraFile,
    target: Target,
    place: tuple[str, str],
    names: Mapping[tuple[str, str], Tensors],
    tensors: Mapping[str, torch.Tensor],
) -> Update:
    layer = target.layer
    found = names[layer.component, layer.name]
    down, up = tensors[found.down], tensors[found.up][target.start : target.stop]
    if target.swapped:
        up = torch.cat(up.chunk(2)[::-1])
    scale = _scale(file, layer, place, tensors[found.alpha] if found.alpha else None)
    if not (math.isfinite(scale) and _is_finite(down) and _is_finite(up)):
        raise BadLora(f"The adapter {file.name!r} has a number that is not finite in its layer {layer.name[:200]!r}.")
    return Update(*place, down.contiguous(), up.contiguous(), scale)


def _is_finite(tensor: torch.Tensor) -> bool:
    return bool(tensor.float().isfinite().all())  # torch does not look into 8-bit floats


def _scale(file: LoraFile, layer: Layer, place: tuple[str, str], alpha: torch.Tensor | None) -> float:
    """``alpha / rank``, by the file's own tensor, else by its header, else 1."""
    if alpha is not None:
        return float(alpha.item()) / layer.rank
    part, name = place
    config = file.configs.get(part) or (file.configs.get("") if layer.component == NETWORK else None)
    if config is None:
        return 1.0
    return config.scale((name, f"text_model.{name}"), layer.rank)  # CLIP's layers were called so in older versions
