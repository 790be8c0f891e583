"""One step of each state of a batch: one update for those whose schedulers' steps are tabulated, one by one else."""

from collections.abc import Sequence

import torch

from worker.denoise.state import DenoiseState
from worker.denoise.tables import step_together
from worker.denoise.transfer import to_device


def step_each(states: Sequence[DenoiseState], outputs: torch.Tensor) -> list[torch.Tensor | Exception]:
    """New latents of each state, (1, C, h, w), from the network's guided outputs; or why it cannot be stepped."""
    pairs = list(zip(states, outputs.split(1), strict=True))
    together = iter(_step_tabulated([(state, output) for state, output in pairs if state.table.depth]))
    return [next(together) if state.table.depth else _step_alone(state, output) for state, output in pairs]


def _step_tabulated(pairs: Sequence[tuple[DenoiseState, torch.Tensor]]) -> Sequence[torch.Tensor]:
    if not pairs:
        return ()
    drawn = _drawn([state for state, _ in pairs], pairs[0][1].device)
    rows = [state.row(output, noise) for (state, output), noise in zip(pairs, drawn, strict=True)]
    latents, carried = step_together(rows)
    if carried is not None:
        for (state, _), its in zip(pairs, carried.split(1), strict=True):
            state.carried = its if state.table.carries else None
    return [*latents.split(1)]


def _drawn(states: Sequence[DenoiseState], device: torch.device) -> list[torch.Tensor | None]:
    """The noise of those whose step has any, in one copy."""
    asked = [state.table.draws[state.index] for state in states]
    found = [state.draw(*draw) for state, draw in zip(states, asked, strict=True) if draw is not None]
    noise = iter(to_device(torch.cat(found), device).split(1) if found else ())
    return [None if draw is None else next(noise) for draw in asked]


def _step_alone(state: DenoiseState, output: torch.Tensor) -> torch.Tensor | Exception:
    """By the state's own scheduler."""
    timestep = state.timesteps[state.index]
    try:
        stepped = state.scheduler.step(output, timestep, state.latents, **state.step_arguments, return_dict=False)
    except Exception as error:
        return error
    return torch.as_tensor(stepped[0])
