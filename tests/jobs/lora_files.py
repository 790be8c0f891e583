"""Adapters' files, by the shapes of their tensors."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def pair(layer: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{layer}.lora_A.weight": (2, inputs), f"{layer}.lora_B.weight": (outputs, 2)}


def write(file: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, file)
    return file
