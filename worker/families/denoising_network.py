"""How a batch becomes calls of a denoising network: its rows, guidance, and features kept from one call to the next."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from worker.modes import Mode
from worker.row_threads import side_by_side
from worker.state import Conditioning, DenoiseState

DEEP = "deep"
"""Beside the conditioning of a shallow call: (rows, F, h, w)."""

Row = tuple[torch.Tensor, torch.Tensor, Conditioning]
"""Of a call of the network: its input (1, C', h, w), timestep () and conditioning."""


class DenoisingNetwork(ABC):
    """What every family does with its network. Latents are (1, C, h, w); ``forward`` brings them into other forms."""

    network: Any
    mode: Mode
    device: torch.device
    dtype: torch.dtype

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """C."""

    # ---- what a family says of its own

    @abstractmethod
    def forward(self, inputs: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """One call of the network: (rows, C', h, w), (rows,) -> (rows, C, h, w)."""

    def forward_keeping(
        self, inputs: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """The same call, and behind its channels those of its deep features: (rows, C + F, h, w)."""
        raise NotImplementedError(f"{type(self).__name__} has no deep features.")

    def forward_shallow(
        self, inputs: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """A call that is told the deep features of an earlier one, as ``DEEP``, instead of computing them."""
        raise NotImplementedError(f"{type(self).__name__} has no deep features.")

    def stack(self, rows: Sequence[Conditioning]) -> Conditioning:
        """The conditioning of several images as one batch."""
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def guide(self, unconditional: torch.Tensor, conditional: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Classifier-free guidance (Ho & Salimans 2022); both (rows, C, h, w), ``scale`` (rows, 1, 1, 1)."""
        return unconditional + scale * (conditional - unconditional)

    # ---- the same for all

    @torch.inference_mode()
    def predict(self, states: Sequence[DenoiseState]) -> torch.Tensor:
        told = [state.text for state in states]
        if states[0].key.guided:
            told = [state.negative_text for state in states if state.negative_text is not None] + told
        output = self._called(states, told)
        if not states[0].key.guided:
            return output
        unconditional, conditional = output.chunk(2)
        scale = torch.tensor([state.guidance_scale for state in states], device=self.device, dtype=self.dtype)
        return self.guide(unconditional, conditional, scale.view(-1, 1, 1, 1))

    def _called(self, states: Sequence[DenoiseState], told: Sequence[Conditioning]) -> torch.Tensor:
        """The network's output of all states for what each is told, and again where there is more: (rows, C, h, w)."""
        forward, shallow = self.forward, states[0].key.shallow
        kept = not shallow and any(state.cache_interval > 1 for state in states)
        if shallow:
            deep = torch.cat([state.deep for state in states if state.deep is not None], 1).flatten(0, 1)
            forward = self.forward_shallow
            told = [{**row, DEEP: features} for row, features in zip(told, deep.split(1), strict=True)]
        elif kept:
            forward = self.forward_keeping

        def call(part: Sequence[Row]) -> torch.Tensor:
            inputs, timesteps, conditioning = zip(*part, strict=True)
            return forward(torch.cat(inputs), torch.stack(timesteps), self.stack(conditioning))

        times = len(told) // len(states)
        inputs = [self.mode.network_input(state) for state in states] * times
        timesteps = [state.timesteps[state.index] for state in states] * times
        rows = list(zip(inputs, timesteps, told, strict=True))
        output = side_by_side(call, rows) if self.device.type == "cpu" else call(rows)
        if kept:
            output, features = output.tensor_split((self.latent_channels,), 1)
            for row, state in enumerate(states):
                state.deep = features[row :: len(states), None].clone()  # apart from its mates', which may leave
        return output
