"""Family names of the catalog -> how each is loaded."""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import StableDiffusionInpaintPipeline

from worker.families.base import Family
from worker.families.sd import StableDiffusion

Loader = Callable[[str, Path, torch.dtype, torch.device], Family]


def _load_sd(name: str, folder: Path, dtype: torch.dtype, device: torch.device) -> Family:
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(
        folder, dtype=dtype, local_files_only=True, safety_checker=None, requires_safety_checker=False
    )
    for network in (pipeline.unet, pipeline.vae):
        network.to(memory_format=torch.channels_last)  # convolutions then need no reordering of the activations
    return StableDiffusion(name, pipeline.to(device))


FAMILIES: dict[str, Loader] = {"sd": _load_sd}
