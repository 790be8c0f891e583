"""A loss in pixels, for how a filled hole looks: through the decoder, on the fill, in the eyes of a frozen VGG.

The squared error of latents asks for the mean of all that could fill a hole, and that is a blur. Distances of features
ask for edges that go on and for a texture of the right kind (Johnson et al. 2016; Zhang et al. 2018).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recipe.example import Example
from recipe.latent_space import CELL_PX, SCALING_FACTOR
from recipe.vgg_hed import VggHed
from worker.training.targets import DiffusionLaw

MARGIN_CELLS = 2
"""Decoded around a window, for what the decoder's convolutions see of it."""
REPEAT = 2.0
"""What a pattern costs that repeats from cell to cell: a grid looks like texture to a VGG, not to a person."""


@dataclass(frozen=True)
class PerceptualLoss:
    """Looks at one square window of each picture, drawn with the example."""

    decoder: nn.Module
    law: DiffusionLaw
    eyes: VggHed
    window_cells: int = 8

    def __call__(self, example: Example, output: Tensor) -> Tensor:
        """The distance of what the network would paint from the picture, and the cost of a grid; mean over the rows.

        ``output`` is the network's v, (B, C, h, w), on whose grid a window must fit.
        """
        change = self._change_of_latents(example, output)
        found = [self._window(example, change, row) for row in range(len(output))]
        painted, wanted = (torch.cat(parts) for parts in zip(*found, strict=True))
        with torch.no_grad():
            seen = self.eyes.features(wanted)
        distance = self.eyes.distance(self.eyes.features(painted), seen).mean()
        return distance + REPEAT * repeated(painted - wanted).sqrt().mean()

    def _change_of_latents(self, example: Example, output: Tensor) -> Tensor:
        """What the network thinks the latents are, counted from the fill's: x0 of the noised ones and v in the cells
        of the hole, nothing in the others, (B, C, h, w)."""
        channels = output.shape[1]
        alpha_bar = self.law.alphas_bar[example.timestep].view(-1, 1, 1, 1)
        noised, cells = example.sample[:, :channels], example.sample[:, channels : channels + 1]
        return (alpha_bar.sqrt() * noised - (1 - alpha_bar).sqrt() * output) * cells

    def _window(self, example: Example, change: Tensor, row: int) -> tuple[Tensor, Tensor]:
        """What is painted and what should be, (1, 3, S, S) each: the hole from the network, the rest as it was."""
        top, left = self._place(example, change.shape[1], row)
        across, down = _pixels(left, self.window_cells), _pixels(top, self.window_cells)
        inner = (slice(row, row + 1), slice(None), down, across)
        image, shown, hole = (part[inner] for part in (example.image, example.shown, example.hole))
        painted = shown + self._decoded(example, change, row, top, left)
        return torch.where(hole > 0, painted.clamp(-1, 1), image), image

    def _place(self, example: Example, channels: int, row: int) -> tuple[int, int]:
        """Top and left cell of the window: the more of the hole one holds, the likelier it is."""
        cells = example.sample[row, channels : channels + 1]
        held = F.avg_pool2d(cells, self.window_cells, stride=1)[0]
        reached = held.flatten().cumsum(0)
        place = int(torch.searchsorted(reached, example.place[row] * reached[-1], right=True))
        top, left = divmod(min(place, held.numel() - 1), held.shape[1])
        return top, left

    def _decoded(self, example: Example, change: Tensor, row: int, top: int, left: int) -> Tensor:
        """What the change of the latents changes in the decoded picture, (1, 3, S, S)."""
        height, width = change.shape[2:]
        size = self.window_cells + 2 * MARGIN_CELLS
        y, x = (max(min(at - MARGIN_CELLS, end - size), 0) for at, end in ((top, height), (left, width)))
        outer = (slice(row, row + 1), slice(None), slice(y, y + size), slice(x, x + size))
        base_latents = example.sample[:, -change.shape[1] :][outer]
        decoded: Tensor = self.decoder(torch.cat([base_latents + change[outer], base_latents]) / SCALING_FACTOR)
        inner = (..., _pixels(top - y, self.window_cells), _pixels(left - x, self.window_cells))
        return (decoded[:1] - decoded[1:])[inner]


def repeated(change: Tensor) -> Tensor:
    """Mean square of what every cell of a window has alike, beside its own mean and slope: (B, 3, S, S) -> (B,)."""
    smooth = F.interpolate(F.avg_pool2d(change, CELL_PX), scale_factor=CELL_PX, mode="bilinear")
    places = F.pixel_unshuffle(change - smooth, CELL_PX)  # (B, 3 * 64, cells, cells)
    return places.mean((2, 3)).square().mean(1) + 1e-8


def _pixels(start_cell: int, cells: int) -> slice:
    return slice(start_cell * CELL_PX, (start_cell + cells) * CELL_PX)
