"""A device of a known speed and memory."""

import time
from typing import Any

import torch

from jobs.catalog import ModelEntry
from tests.factories import model_entry
from tests.worker import tiny
from worker.families.latent_diffusion import LatentDiffusion


def entry(size_px: int = 64, max_size_px: int = 64) -> ModelEntry:
    return model_entry(num_inference_steps=4, guidance_scale=3, size_px=size_px, max_size_px=max_size_px)


class Device(torch.nn.Module):
    """A real network on a device that takes at least ``pass_s`` for a pass, and ``row_s`` for each row of it.

    A pass of more than ``rows`` rows runs out of memory, with the allocator's own error.
    """

    def __init__(self, network: torch.nn.Module, pass_s: float, row_s: float, rows: int = 1000) -> None:
        super().__init__()
        self.network, self.pass_s, self.row_s, self.rows = network, pass_s, row_s, rows
        self.sizes: list[int] = []
        self.sides: list[int] = []

    def forward(self, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        self.sizes.append(len(sample))
        self.sides.append(8 * sample.shape[-1])
        if len(sample) > self.rows:
            raise torch.OutOfMemoryError("out of memory")
        area = sample.shape[2] * sample.shape[3] / 64  # of the 8 x 8 latents of a canvas of 64 px
        time.sleep(max(self.pass_s, self.row_s * len(sample) * area))
        return self.network(sample, *args, **kwargs)


class Clock:
    """Time that passes while a device is busy, and a microsecond each time that one looks."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def perf_counter(self) -> float:
        self.sleep(1e-6)
        return self.now_s


def sleep(seconds: float) -> None:
    """By the clock of this module, which a test may have set."""
    time.sleep(seconds)


def on_device(pass_s: float, row_s: float, rows: int = 1000) -> tuple[LatentDiffusion, Device]:
    model = tiny.model("sd", "concat")
    device = Device(model.network, pass_s, row_s, rows)
    model.network = device
    return model, device
