"""How a batch becomes calls of a denoising network: its rows, guidance, and features kept from one call to the next."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from worker.denoise.modes import Mode
from worker.denoise.state import Conditioning, DenoiseState
from worker.denoise.transfer import columns
from worker.families.compiled_calls import CompiledCalls, Forward, grid_of
from worker.families.row_threads import side_by_side

DEEP = "deep"
"""Beside the conditioning of a shallow call: (rows, F, h, w)."""

Row = tuple[torch.Tensor, torch.Tensor, Conditioning]
"""Of a call of the network: its input (1, C', h, w), timestep (1,) and conditioning."""


class DenoisingNetwork(ABC):
    """What every family does with its network. Latents are (1, C, h, w); ``forward`` brings them into other forms."""

    network: Any
    mode: Mode
    device: torch.device
    dtype: torch.dtype
    compiled: CompiledCalls

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """C."""

    # ---- what a family's own file overrides

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
        """A call that takes the deep features of an earlier one, as ``DEEP``, instead of computing them."""
        raise NotImplementedError(f"{type(self).__name__} has no deep features.")

    def stack(self, rows: Sequence[Conditioning]) -> Conditioning:
        """The conditioning of several images as one batch."""
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def closed(self, row: Conditioning) -> Conditioning:
        """An image's conditioning as compiled calls take it; of other shapes where it does not fit into them."""
        return row

    def guide(self, unconditional: torch.Tensor, conditional: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Classifier-free guidance (Ho & Salimans 2022); both (rows, C, h, w), ``scale`` (rows, 1, 1, 1)."""
        return unconditional + scale * (conditional - unconditional)

    # ---- the same for all

    @torch.inference_mode()
    def predict(self, states: Sequence[DenoiseState]) -> torch.Tensor:
        cond = [state.text for state in states]
        if states[0].key.guided:
            cond = [state.negative_text for state in states if state.negative_text is not None] + cond
        numbers = [(state.guidance_scale, state.scale, float(state.timesteps[state.index])) for state in states]
        guidance, scale, timesteps = columns(numbers, self.device)
        latents = (scale * torch.cat([state.latents for state in states])).to(self.dtype)
        inputs = self.mode.network_input(states, latents)
        output = self._called(states, inputs, timesteps.flatten(), cond)
        if not states[0].key.guided:
            return output
        unconditional, conditional = output.chunk(2)
        return self.guide(unconditional, conditional, guidance.to(self.dtype))

    def _called(
        self,
        states: Sequence[DenoiseState],
        inputs: torch.Tensor,
        timesteps: torch.Tensor,
        cond: Sequence[Conditioning],
    ) -> torch.Tensor:
        """Run unconditional and conditional rows in one call: (rows, C, h, w)."""
        forward: Forward = self.forward
        shallow = states[0].key.shallow
        kept = not shallow and any(state.cache_interval > 1 for state in states)
        if shallow:
            deep = torch.cat([state.deep for state in states if state.deep is not None], 1).flatten(0, 1)
            forward = self.forward_shallow
            cond = [{**row, DEEP: features} for row, features in zip(cond, deep.split(1), strict=True)]
        elif kept:
            forward = self.forward_keeping

        times = len(cond) // len(states)
        rows: list[Row] = list(zip(inputs.split(1) * times, timesteps.split(1) * times, cond, strict=True))
        if not (shallow or kept) and (padded := self._padded(rows)):
            rows, forward = padded, self._forward_compiled

        def call(part: Sequence[Row]) -> torch.Tensor:
            shown, at, conditioning = zip(*part, strict=True)
            return forward(torch.cat(shown), torch.cat(at), self.stack(conditioning))

        output = side_by_side(call, rows) if self.device.type == "cpu" else call(rows)
        output = output[: len(cond)]
        if kept:
            output, features = output.tensor_split((self.latent_channels,), 1)
            for row, state in enumerate(states):
                state.deep = features[row :: len(states), None].clone()  # apart from its mates', which may leave
        return output

    def _padded(self, rows: list[Row]) -> list[Row] | None:
        """The rows of a compiled call, the last ones copies of the first; None where no such call is compiled."""
        wanted = self.compiled.padded(grid_of(rows[0][0]), len(rows))
        if wanted is None:
            return None
        closed = [(shown, at, self.closed(cond)) for shown, at, cond in rows]
        if not all(self.compiled.takes(cond) for _, _, cond in closed):
            return None
        return closed + closed[:1] * (wanted - len(rows))

    def _forward_compiled(
        self, inputs: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """``forward`` in one memory format: a compiled call is of one only."""
        assert self.compiled.forward is not None
        return self.compiled.forward(inputs.contiguous(), timesteps, conditioning)
