"""One step of each state of a batch: one update for those whose schedulers' steps are tabulated, one by one else."""

from collections.abc import Sequence

import torch

from worker.state import DenoiseState
from worker.tables import step_together


def step_each(states: Sequence[DenoiseState], outputs: Sequence[torch.Tensor]) -> list[torch.Tensor | Exception]:
    """New latents of each state, (1, C, h, w), from the network's guided outputs; or why it cannot be stepped."""
    stepped: list[torch.Tensor | Exception] = list(outputs)
    tabulated = []
    for row, (state, output) in enumerate(zip(states, outputs, strict=True)):
        if state.table:
            state.past = [(state.latents, output), *state.past[: state.table.depth - 1]]
            tabulated.append((state.table, state.index, state.past))
            continue
        try:
            stepped[row] = _step_alone(state, output)
        except Exception as error:
            stepped[row] = error
    together = iter(step_together(tabulated).split(1) if tabulated else ())
    return [next(together) if state.table else alone for state, alone in zip(states, stepped, strict=True)]


def _step_alone(state: DenoiseState, output: torch.Tensor) -> torch.Tensor:
    """By the state's own scheduler."""
    timestep = state.timesteps[state.index]
    stepped = state.scheduler.step(output, timestep, state.latents, **state.step_arguments, return_dict=False)
    return torch.as_tensor(stepped[0])
