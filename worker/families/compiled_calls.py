"""Which calls of a model's networks are compiled (``worker.engine.compiling`` compiles them)."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from worker.denoise.state import Conditioning

Forward = Callable[[torch.Tensor, torch.Tensor, Conditioning], torch.Tensor]
"""A call of a denoising network: ``DenoisingNetwork.forward``."""

Decode = Callable[[torch.Tensor], torch.Tensor]
"""A call of a VAE's decoder: ``VaeLatents.decode``."""

Grid = tuple[int, int]
"""Height and width of latents."""


def grid_of(latents: torch.Tensor) -> Grid:
    """Of (rows, C, h, w)."""
    return latents.shape[2], latents.shape[3]


def shapes_of(row: Conditioning) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in row.items()}


@dataclass
class CompiledCalls:
    """Of one model. Without ``rows`` and ``decoded`` all of its calls run eagerly."""

    forward: Forward | None = None
    rows: dict[Grid, list[int]] = field(default_factory=dict)
    """Rows of the calls for which ``forward`` is compiled, ascending."""
    conditioning: dict[str, torch.Size] = field(default_factory=dict)
    """Of one row of those calls."""
    decode: Decode | None = None
    decoded: set[Grid] = field(default_factory=set)
    """Where ``decode`` is compiled, for one image."""

    def padded(self, grid: Grid, rows: int) -> int | None:
        """Rows of the smallest compiled call that has room for so many; None where no call has."""
        known = self.rows.get(grid, [])
        place = bisect_left(known, rows)
        return known[place] if place < len(known) else None

    def takes(self, row: Conditioning) -> bool:
        """Whether a row's conditioning has the shapes that are compiled."""
        return shapes_of(row) == self.conditioning

    def forget_network(self) -> None:
        self.forward = None
        self.rows.clear()

    def forget_decoder(self) -> None:
        self.decode = None
        self.decoded.clear()
