"""A noise scheduler's steps as tables of weights: one update serves rows of different jobs, steps and schedulers.

A step of most schedulers is a weighted sum of the latents and network outputs of the last few calls. The weights are
read off diffusers' own scheduler: it is run once over a basis, in which every latents and output has a direction of its
own. Schedulers that draw noise, or whose steps look back without end, cannot be tabulated and go on one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin

from worker.sampling import network_scaled, noised, step_arguments

TABULATED = ("ddim", "euler", "heun", "dpmpp_2m", "dpmpp_2m_karras", "flow_euler", "flow_euler_karras", "flow_heun")
"""Names of the schedulers whose steps are sums."""

CLIPPING = ("clip_sample", "thresholding")
"""What makes a step more than a sum, by a scheduler's config."""

Call = tuple[torch.Tensor, torch.Tensor]
"""The latents that a network call began with, and its guided output; both (1, C, h, w)."""


@dataclass(frozen=True)
class Table:
    """Of N network calls, looking back over D of them; all float32 on the CPU.

    ``latents after call i = sum of latents[i, k] * (latents before call i - k) + outputs[i, k] * (its output), k < D``
    """

    latents: torch.Tensor  # (N, D)
    outputs: torch.Tensor  # (N, D)
    scale: torch.Tensor  # (N,): the network is shown the latents times this
    levels: torch.Tensor  # (N, 2): weights of clean latents and noise at the noise level that call i begins with

    @property
    def depth(self) -> int:
        return self.latents.shape[1]


def tabulate(name: str, scheduler: SchedulerMixin, timesteps: torch.Tensor) -> Table | None:
    """Run a scheduler over a basis to its end. None if its steps are not sums.

    Args:
        name: the scheduler's, of ``jobs.schedulers``.
        scheduler: begun on the CPU, and used up by this.
        timesteps: those of the calls, (N,).
    """
    if name not in TABULATED or any(scheduler.config.get(clips) for clips in CLIPPING):
        return None
    calls = len(timesteps)
    basis = torch.eye(2 * calls).view(calls, 2, 1, 1, 1, 2 * calls)  # call, latents | output, then as an image
    arguments = step_arguments(scheduler, torch.Generator())
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    sums, scale, levels = [], [], []
    for call, timestep in enumerate(timesteps):
        at = timesteps[call : call + 1]
        levels.append([noised(scheduler, one, zero, at).item(), noised(scheduler, zero, one, at).item()])
        scale.append(network_scaled(scheduler, one, timestep).item())
        before, output = basis[call]
        after = scheduler.step(output, timestep, before, **arguments, return_dict=False)[0]
        sums.append(after.view(calls, 2).float()[: call + 1].flip(0))  # the latest call first
    latents, outputs = _by_call(sums)
    return Table(latents, outputs, torch.tensor(scale), torch.tensor(levels))


def _by_call(sums: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of growing length, (calls so far, 2), cut to how far any of them looks back: two of (N, D)."""
    depth = 1 + max(int(weights.any(dim=1).nonzero().max()) for weights in sums)
    table = torch.zeros(len(sums), depth, 2)
    for call, weights in enumerate(sums):
        table[call, : len(weights)] = weights[:depth]
    return table[..., 0], table[..., 1]


def step_together(rows: Sequence[tuple[Table, int, Sequence[Call]]]) -> torch.Tensor:
    """One step of every row, whatever its schedule: (rows, C, h, w) in float32.

    Args:
        rows: a table, the index of the network call just had, and the latest calls, that one first.
    """
    total: torch.Tensor | None = None
    for back in range(max(table.depth for table, _, _ in rows)):
        for part in range(2):
            weights = torch.tensor([_weight(table, index, back, part) for table, index, _ in rows])
            if weights.any():
                values = torch.cat([calls[min(back, len(calls) - 1)][part] for _, _, calls in rows]).float()
                weighted = weights.view(-1, 1, 1, 1).to(values.device) * values
                total = weighted if total is None else total + weighted
    assert total is not None
    return total


def _weight(table: Table, index: int, back: int, part: int) -> float:
    return float((table.latents, table.outputs)[part][index, back]) if back < table.depth else 0.0
