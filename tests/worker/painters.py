"""Tiny networks that paint in one call, trained here within a few CPU seconds, and their TorchScript files."""

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from jobs.catalog import ModelEntry
from jobs.feedforward import FIXED_SIZE, Convention
from worker.families.feedforward import FeedForward

Pixels = NDArray[np.uint8]

SIDE_PX = 64
"""The one side of the network of fixed size."""
TRAINED_PX = 32
DILATIONS = (1, 2, 4, 4, 2, 1)
WIDTH = 16
STEPS = 300
HOLE_PX = 10


def smooth_picture(seed: int, side_px: int = SIDE_PX) -> Pixels:
    """Colours that change slowly over the picture, (side, side, 3)."""
    random = np.random.default_rng(seed)
    down, across = np.mgrid[0:side_px, 0:side_px] / SIDE_PX
    waves = [
        np.sin(2 * np.pi * (random.uniform(-2, 2) * down + random.uniform(-2, 2) * across + random.random()))
        for _ in range(3)
    ]
    return np.asarray((127.5 + 110 * np.stack(waves, axis=2)).round(), np.uint8)


def hole_in(seed: int, side_px: int = SIDE_PX) -> Pixels:
    """A square hole somewhere off the edge: (side, side), 255 in it, else 0."""
    top, left = np.random.default_rng(seed).integers(4, side_px - HOLE_PX - 4, 2)
    mask = np.zeros((side_px, side_px), np.uint8)
    mask[top : top + HOLE_PX, left : left + HOLE_PX] = 255
    return mask


class Painter(torch.nn.Module):
    """Convolutions of several dilations: (N, 3, H, W), 0 to 1, black in the hole, and (N, 1, H, W), 1 there."""

    def __init__(self) -> None:
        super().__init__()
        channels = [4, *[WIDTH] * (len(DILATIONS) - 1), 3]
        self.layers = torch.nn.ModuleList(
            torch.nn.Conv2d(before, after, 3, padding=dilation, dilation=dilation, padding_mode="replicate")
            for before, after, dilation in zip(channels, channels[1:], DILATIONS, strict=False)
        )

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = torch.cat([2 * image - 1 + mask, mask], dim=1)
        for layer in self.layers:
            found = layer(F.leaky_relu(found, 0.2))
        painted: torch.Tensor = found.sigmoid()
        return painted


class OneSize(torch.nn.Module):
    """The same network as MI-GAN is called: (N, 4, S, S), 0.5 - mask and the picture in -1 to 1; returns -1 to 1."""

    def __init__(self, painter: Painter) -> None:
        super().__init__()
        self.painter, self.side_px = painter, SIDE_PX

    def forward(self, shown: torch.Tensor) -> torch.Tensor:
        if shown.shape[2] != self.side_px or shown.shape[3] != self.side_px:
            raise ValueError("another size than it was trained at")
        hole = 0.5 - shown[:, :1]
        painted: torch.Tensor = self.painter((shown[:, 1:] + 1) / 2 * (1 - hole), hole)
        return 2 * painted - 1


def tensors(pictures: list[Pixels], holes: list[Pixels]) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 3, H, W) and (N, 1, H, W), 0 to 1."""
    image = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return image, torch.from_numpy(np.stack(holes))[:, None].float() / 255


@cache
def trained() -> Painter:
    """A painter that has learned to continue smooth pictures into a hole."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        painter = Painter()
        optimizer = torch.optim.Adam(painter.parameters(), 4e-3)
        for step in range(STEPS):
            seeds = range(1000 + 4 * step, 1004 + 4 * step)
            image, hole = tensors(
                [smooth_picture(seed, TRAINED_PX) for seed in seeds], [hole_in(seed, TRAINED_PX) for seed in seeds]
            )
            loss = ((painter(image * (1 - hole), hole) - image).abs() * (hole + 0.05)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return painter.eval()


def save(network: torch.nn.Module, file: Path) -> Path:
    """As a TorchScript file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        torch.jit.save(torch.jit.script(network), str(file))
    return file


def entry(convention: Convention = "lama", file: Path = Path("/tiny.pt"), **changed: object) -> ModelEntry:
    """Its entry in a catalog: a network of any size runs at up to 128 px."""
    sizes = {"size_px": SIDE_PX} if convention in FIXED_SIZE else {"size_px": SIDE_PX, "max_size_px": 128}
    usual = {"family": "feedforward", "convention": convention, "allow_pickle": True, "source": str(file)}
    return ModelEntry.model_validate({**usual, **sizes, **changed})


@cache
def model(convention: Convention) -> FeedForward:
    """The trained network, loaded, as each convention has it; one for all tests, which change nothing of it."""
    return FeedForward("tiny", NETWORKS[convention](trained()), convention, SIDE_PX)


NETWORKS: dict[Convention, Callable[[Painter], torch.nn.Module]] = {"lama": lambda painter: painter, "migan": OneSize}
