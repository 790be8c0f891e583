"""One image on its way through the denoising loop."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from diffusers import SchedulerMixin

from worker.sampling import network_scaled, noised
from worker.tables import Call, Table

Conditioning = Mapping[str, torch.Tensor]
"""What a network is told beside latents and timestep: the name of its argument -> (rows, ...)."""


class Adapter(NamedTuple):
    """A LoRA adapter at one scale. ``digest`` is of name and content: a file that was replaced is another adapter."""

    digest: str
    name: str
    scale: float


AdapterSet = tuple[Adapter, ...]
"""Sorted, so that the order in a request does not matter; () is the model itself."""


class BatchKey(NamedTuple):
    """States of equal keys can be stacked into one forward pass."""

    model: str
    latent_shape: tuple[int, ...]
    dtype: torch.dtype
    guided: bool
    adapters: AdapterSet = ()
    shallow: bool = False  # whether the next call takes the deep features of an earlier one


@dataclass(eq=False)
class DenoiseState:
    """Everything an image needs for its next step. Batch mates share the network, nothing else.

    Shapes, with C latent channels on an h x w grid: latents, noise, image_latents (1, C, h, w); extra_channels
    (1, C' - C, h, w) for a network of C' input channels; mask (1, 1, h, w); text and negative_text one
    row; timesteps (N,), one for each network call: a scheduler of second order makes two a step, and one in the last.
    """

    key: BatchKey
    latents: torch.Tensor
    noise: torch.Tensor
    mask: torch.Tensor  # 1 where the network is to repaint, 0 where not, and between them by jobs/mask_values.py
    soft: bool
    image_latents: torch.Tensor | None
    extra_channels: torch.Tensor | None
    ground: torch.Tensor | None  # what the latents are counted from, (1, C, h, w); None: from zero
    residue: torch.Tensor | None  # what decoding the ground loses of the picture it is of, (1, 3, H, W)
    text: Conditioning
    negative_text: Conditioning | None
    guidance_scale: float
    scheduler: SchedulerMixin
    timesteps: torch.Tensor
    steps: int
    step_arguments: dict[str, Any]
    cache_interval: int = 1  # of so many network calls the first is a full one, the others are shallow
    deep: torch.Tensor | None = None  # features of the latest full call, for each of its rows: (1 or 2, 1, F, h, w)
    table: Table | None = None  # the scheduler's steps, where they can be tabulated: it is then never stepped itself
    past: list[Call] = field(default_factory=list)  # the latest network calls that the table looks back to
    index: int = 0  # of the next network call
    last_turn: int = 0
    error: Exception | None = None

    @property
    def calls(self) -> int:
        """Network calls from beginning to end."""
        return len(self.timesteps)

    @property
    def steps_done(self) -> int:
        return self.steps if self.index >= self.calls else self.index // self.scheduler.order

    @property
    def done(self) -> bool:
        return self.index >= self.calls or self.error is not None

    def go_on(self, latents: torch.Tensor) -> None:
        """The network has been called and the latents stepped: what is to be called next."""
        self.latents = latents.to(self.latents.dtype)
        self.index += 1
        self.key = self.key._replace(shallow=self.index % self.cache_interval > 0)

    @property
    def painted(self) -> torch.Tensor:
        """The picture's latents as they are now, (1, C, h, w). Where nothing is repainted the ground is the picture.

        The ground of a soft cell is filled in part already; what is painted on it counts as much.
        """
        return self.latents if self.ground is None else self.latents * self.mask + self.ground

    def scaled_latents(self) -> torch.Tensor:
        """The latents as the network expects them at this step, (1, C, h, w)."""
        if self.table:
            return torch.as_tensor(self.table.scale[self.index] * self.latents)
        return network_scaled(self.scheduler, self.latents, self.timesteps[self.index])

    def noised_original(self) -> torch.Tensor:
        """The image latents at the noise level of the next step; clean after the last one. (1, C, h, w)"""
        assert self.image_latents is not None
        if self.index >= self.calls:
            return self.image_latents
        if self.table:
            clean, noise = self.table.levels[self.index]
            return torch.as_tensor(clean * self.image_latents + noise * self.noise)
        return noised(self.scheduler, self.image_latents, self.noise, self.timesteps[self.index : self.index + 1])
