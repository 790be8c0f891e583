"""One image on its way through the denoising loop."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from diffusers import SchedulerMixin

from worker.denoise.device import released
from worker.denoise.tables import Call, Row, Table

Conditioning = Mapping[str, torch.Tensor]
"""A network's arguments beside latents and timestep: name -> (rows, ...)."""


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
    text_tokens: int = 0  # that its rows attend to; 0 where rows of different lengths can be stacked
    adapters: AdapterSet = ()
    shallow: bool = False  # whether the next call takes the deep features of an earlier one


class Fill(NamedTuple):
    """The filled picture that ``worker.denoise.modes.FillMode`` paints on."""

    base_latents: torch.Tensor  # (1, C, h, w): the state's latents are offsets from them
    error: torch.Tensor  # (1, 3, H, W): filled picture minus the decoded base latents


@dataclass(eq=False, kw_only=True)
class State:
    """What the engine knows of an image, whatever its family. Each step is one network call."""

    key: BatchKey
    steps: int
    index: int = 0  # of the next network call
    last_turn: int = 0
    wants_estimate: bool = False  # whether the next step is to keep its estimate
    estimate: torch.Tensor | None = None  # of the finished image, as the family has it, (1, C, h, w)
    error: Exception | None = None

    @property
    def calls(self) -> int:
        """Network calls from beginning to end."""
        return self.steps

    @property
    def steps_done(self) -> int:
        return self.index

    @property
    def done(self) -> bool:
        return self.index >= self.calls or self.error is not None

    def fail(self, error: Exception) -> None:
        """Keep why it cannot go on, without what was computed on the way to it."""
        self.error = released(error)

    def go_on(self) -> None:
        """Record one network call: what is called next."""
        self.index += 1


@dataclass(eq=False, kw_only=True)
class DenoiseState(State):
    """Everything an image needs for its next step. Batch mates share the network, nothing else.

    Shapes, with C latent channels on an h x w grid: latents, noise, image_latents (1, C, h, w); extra_channels
    (1, C' - C, h, w) for a network of C' input channels; mask (1, 1, h, w); text and negative_text one
    row; timesteps (N,), one for each network call: a scheduler of second order makes two a step, and one in the last.
    The schedule lies in main memory, all else on the device.
    """

    latents: torch.Tensor
    noise: torch.Tensor
    mask: torch.Tensor  # 1 where the network is to repaint, 0 where not, and between them by jobs/mask_values.py
    soft: bool
    image_latents: torch.Tensor | None
    extra_channels: torch.Tensor | None
    text: Conditioning
    negative_text: Conditioning | None
    guidance_scale: float
    scheduler: SchedulerMixin
    table: Table  # of the scheduler's steps: where it does not clip, it is never stepped itself
    draw: Callable[..., torch.Tensor]  # the noise of a step, (1, C, h, w), in main memory
    timesteps: torch.Tensor
    step_arguments: dict[str, Any]
    cache_interval: int = 1  # of so many network calls the first is a full one, the others are shallow
    deep: torch.Tensor | None = None  # features of the latest full call, for each of its rows: (1 or 2, 1, F, h, w)
    fill: Fill | None = None  # of ``FillMode`` alone
    past: list[Call] = field(default_factory=list)  # the latest network calls that the table looks back to
    carried: torch.Tensor | None = None  # (1, C, h, w), if the table carries something from call to call

    @property
    def calls(self) -> int:
        return len(self.timesteps)

    @property
    def step(self) -> int:
        """The step, counted from 0, of the network call just had: a scheduler of second order has two a step."""
        return int((self.index - 1) // self.scheduler.order)

    @property
    def steps_done(self) -> int:
        return self.steps if self.index >= self.calls else self.index // self.scheduler.order

    def go_on(self) -> None:
        super().go_on()
        self.key = self.key._replace(shallow=self.index % self.cache_interval > 0)

    def row(self, output: torch.Tensor, noise: torch.Tensor | None) -> Row:
        """What its next step is computed from, with the call's output; the call is kept for later ones."""
        self.past = [(self.latents, output), *self.past[: self.table.depth - 1]]
        return Row(self.table, self.index, self.past, noise, self.carried)

    @property
    def scale(self) -> float:
        """The network expects the latents times this at this step."""
        return float(self.table.scale[self.index])

    @property
    def levels(self) -> tuple[float, float]:
        """Weights of clean latents and noise at the noise level of the next step; clean after the last one."""
        clean, noise = self.table.levels[self.index].tolist()
        return clean, noise

    def scaled_latents(self) -> torch.Tensor:
        """The latents as the network expects them at this step, (1, C, h, w)."""
        return self.scale * self.latents

    def noised_original(self) -> torch.Tensor:
        """The image latents at the noise level of the next step. (1, C, h, w)"""
        assert self.image_latents is not None
        clean, noise = self.levels
        return clean * self.image_latents + noise * self.noise
