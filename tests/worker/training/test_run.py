"""The running average of the weights: diffusers' EMAModel, and the formula that it follows."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from worker.training.run import TrainingState

DECAY = 0.3


def _state() -> TrainingState:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 3), nn.Conv2d(2, 2, 1))
    return TrainingState.start({"net": module}, torch.optim.SGD(module.parameters(), lr=0.1))


def _move(state: TrainingState, decay: float) -> None:
    """A step that changes the weights, and the average after it."""
    with torch.no_grad():
        for parameter in state.modules["net"].parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(state.step)))
    state.step += 1
    state.average(decay)


def test_the_average_keeps_the_decays_share_and_less_in_the_first_steps() -> None:
    state = _state()
    wanted = {name: value.clone() for name, value in state.modules["net"].state_dict().items()}
    for step in range(1, 9):
        _move(state, DECAY)
        keep = min(DECAY, (1 + step) / (10 + step))
        for name, value in state.modules["net"].state_dict().items():
            wanted[name] = keep * wanted[name] + (1 - keep) * value
            torch.testing.assert_close(state.averages["net"][name], wanted[name])


def test_an_average_that_was_saved_and_restored_goes_on_bit_for_bit(tmp_path: Path) -> None:
    through, halves = _state(), _state()
    for state in (through, halves):
        for _ in range(3):
            _move(state, DECAY)
    halves.save(tmp_path / "checkpoint.pt")
    resumed = _state()
    resumed.restore(tmp_path / "checkpoint.pt")
    for state in (through, resumed):
        _move(state, DECAY)
    for name, value in through.averages["net"].items():
        assert torch.equal(value, resumed.averages["net"][name]), name
