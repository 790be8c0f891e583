"""A noise scheduler's steps as tables of weights: one update serves rows of different jobs, steps and schedulers.

A step is a weighted sum of the latents and network outputs of the last few calls, of fresh noise, and of what the
scheduler carries along from step to step (UniPC: its corrected latents). The weights are read off diffusers' own
scheduler: it is run once over a basis, in which each of these has a direction of its own. A scheduler that clips cannot
be tabulated and goes on by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from diffusers import SchedulerMixin
from torch.utils._python_dispatch import TorchDispatchMode

from worker.denoise.sampling import network_scaled, noised, step_arguments
from worker.denoise.transfer import to_device

CLIPPING = ("clip_sample", "thresholding")
"""Settings of a scheduler whose step is then more than a weighted sum."""

CARRIED = "last_sample"
"""A scheduler's attribute with what it carries along."""

NOISE, CARRY = -2, -1
"""The last two columns of a table's weights."""

Call = tuple[torch.Tensor, torch.Tensor]
"""The latents that a network call began with, and its guided output; both (1, C, h, w)."""

Draw = tuple[torch.Tensor, ...] | None
"""What a scheduler asks its source of noise for: the two noise levels of DPM++ SDE, else (); None: no noise."""


@dataclass(frozen=True)
class Table:
    """Of N network calls, looking back over D of them; all float32 in main memory.

    ``weights[i, 0]`` are those of the latents after call i, ``weights[i, 1]`` those of what is carried to call i + 1:
    for the latents before the call and its output, for those of the call before it, and so on; for noise; and for what
    has been carried to call i. None where the scheduler clips.
    """

    scale: torch.Tensor  # (N,): the network is shown the latents times this
    levels: torch.Tensor  # (N + 1, 2): weights of clean latents and noise at the noise level that call i begins with
    draws: tuple[Draw, ...]
    weights: torch.Tensor | None  # (N, 2, 2 D + 2)

    @property
    def depth(self) -> int:
        return 0 if self.weights is None else self.weights.shape[2] // 2 - 1

    @property
    def carries(self) -> bool:
        return self.weights is not None and bool(self.weights[:, 0, CARRY].any())


class Row(NamedTuple):
    """An image that is to be stepped: by its table, after the network call of this index."""

    table: Table
    call: int
    past: Sequence[Call]  # that call and those before it, the latest first
    noise: torch.Tensor | None = None  # (1, C, h, w), where the table draws
    carried: torch.Tensor | None = None  # (1, C, h, w), where the table carries, but for the first call


def tabulate(scheduler: SchedulerMixin, timesteps: torch.Tensor) -> Table:
    """Run a scheduler over a basis to its end.

    Args:
        scheduler: begun, and used up by this.
        timesteps: those of the calls, (N,).
    """
    calls, clips = len(timesteps), any(scheduler.config.get(name) for name in CLIPPING)
    directions = torch.eye(2 * calls + 2).view(-1, 1, 1, 1, 2 * calls + 2)  # each as an image
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    arguments = step_arguments(scheduler, torch.Generator())
    sums, scale, levels, draws = [], [], [], []
    for call, timestep in enumerate(timesteps):
        at = timesteps[call : call + 1]
        levels.append([noised(scheduler, one, zero, at).item(), noised(scheduler, zero, one, at).item()])
        scale.append(network_scaled(scheduler, one, timestep).item())
        if getattr(scheduler, CARRIED, None) is not None:
            setattr(scheduler, CARRIED, directions[CARRY])
        before, output = directions[2 * call : 2 * call + 2]
        with _Draws(scheduler, directions[NOISE]) as drawn:
            after = scheduler.step(output, timestep, before, **arguments, return_dict=False)[0]
        draws.append(drawn.draw)
        carried = getattr(scheduler, CARRIED, None)
        sums.append(
            torch.stack([after.flatten(), torch.zeros(2 * calls + 2) if carried is None else carried.flatten()])
        )
    weights = None if clips else _latest_first(torch.stack(sums).float())
    return Table(torch.tensor(scale), torch.tensor([*levels, [1.0, 0.0]]), tuple(draws), weights)


class _Draws(TorchDispatchMode):
    """Inside, whatever a scheduler draws is ``noise``, and ``draw`` is how it asked for it."""

    def __init__(self, scheduler: SchedulerMixin, noise: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.noise = noise
        self.draw: Draw = None
        if hasattr(scheduler, "noise_sampler"):
            scheduler.noise_sampler = self._drawn

    def _drawn(self, *levels: torch.Tensor) -> torch.Tensor:
        self.draw = levels
        return self.noise

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._drawn() if func.overloadpacket is torch.ops.aten.randn else func(*args, **(kwargs or {}))


def _latest_first(sums: torch.Tensor) -> torch.Tensor:
    """Weights by call, (N, 2, 2 N + 2), cut to the longest look back of any: (N, 2, 2 D + 2)."""
    calls = len(sums)
    pairs = sums[..., :NOISE].unflatten(2, (calls, 2))
    back = torch.stack([pairs[call].roll(calls - 1 - call, 1).flip(1) for call in range(calls)])  # (N, 2, N, 2)
    depth = 1 + int(back.any(dim=3).nonzero()[:, 2].max())
    return torch.cat([back[:, :, :depth].flatten(2), sums[..., NOISE:]], dim=2)


def step_together(rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One step of every row, whatever its schedule.

    Returns:
        Latents, and what is carried to the next call if any of the tables carries: (rows, C, h, w), float32.
    """
    depth = max(len(row.past) for row in rows)
    extra = [name for name in ("noise", "carried") if any(getattr(row, name) is not None for row in rows)]
    values = torch.cat([value for row in rows for value in _values(row, depth, extra)])
    values = values.unflatten(0, (len(rows), -1))[:, None]  # (rows, 1, K, C, h, w)
    weights = torch.stack([_weights(row, depth, extra) for row in rows])  # (rows, 2, K)
    carries = any(row.table.carries for row in rows)
    weights = to_device(weights if carries else weights[:, :1], values.device)
    sums = (weights[..., None, None, None] * values).sum(2)
    return sums[:, 0], sums[:, 1] if carries else None


def _values(row: Row, depth: int, extra: Sequence[str]) -> list[torch.Tensor]:
    """What the weights of a row are for; zero ones for anything."""
    calls = [value for call in row.past for value in call]
    others = [getattr(row, name) for name in extra]
    anything = row.past[0][0]
    return [*calls, *[anything] * (2 * depth - len(calls)), *[anything if other is None else other for other in others]]


def _weights(row: Row, depth: int, extra: Sequence[str]) -> torch.Tensor:
    """(2, K)"""
    assert row.table.weights is not None
    known = row.table.weights[row.call]
    calls = known[:, : 2 * len(row.past)]
    places = {"noise": NOISE, "carried": CARRY}
    others = [known[:, places[name], None] for name in extra]
    return torch.cat([calls, torch.zeros(2, 2 * depth - calls.shape[1]), *others], dim=1)
