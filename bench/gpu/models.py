"""The models of a run: pipelines on the device, and the options by which the servers find the same weights."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline

from bench.gpu.shapes import SHAPES, Shape, build
from bench.served_model import ServedModel

GUIDANCE_SCALE = 7.5
POCKET = Path(__file__).parents[2] / "worker" / "pocket" / "model"


@dataclass(frozen=True)
class Place:
    """Where a model goes: its device and dtype, and the folder that its files are written to, if servers need them."""

    device: torch.device
    dtype: torch.dtype
    folder: Path

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


Opener = Callable[[Place], tuple[DiffusionPipeline, ServedModel]]


def open_pocket(place: Place) -> tuple[DiffusionPipeline, ServedModel]:
    """The model that ships, with its weights."""
    pipeline = DiffusionPipeline.from_pretrained(str(POCKET), dtype=place.dtype, local_files_only=True)
    return pipeline.to(place.device), ServedModel(device=str(place.device), dtype=place.dtype_name)


def open_shape(shape: Shape, place: Place) -> tuple[DiffusionPipeline, ServedModel]:
    """A published model's shape with random weights, kept as a diffusers folder for the servers."""
    pipeline = build(shape, place.device, place.dtype)
    folder = place.folder / shape.name
    pipeline.save_pretrained(str(folder))
    return pipeline, ServedModel(
        name=shape.name,
        folder=folder,
        family=shape.family,
        size_px=shape.size_px,
        scheduler=shape.scheduler,
        guidance_scale=GUIDANCE_SCALE,
        device=str(place.device),
        dtype=place.dtype_name,
    )


OPENERS: dict[str, Opener] = {
    **{name: partial(open_shape, shape) for name, shape in SHAPES.items()},
    "pocket": open_pocket,
}


def quiet() -> None:
    """No progress bars, and no advice about safety checkers."""
    for library in (diffusers, transformers):
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()
