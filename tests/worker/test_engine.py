"""The engine among failing states, full devices and hung calls."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from tests.worker import tiny
from tests.worker.test_parity import canvas, difference, no_clock, parameters, run_alone
from worker.engine import Engine
from worker.failures import failure_of
from worker.families.latent_diffusion import LatentDiffusion
from worker.state import DenoiseState

pytestmark = pytest.mark.usefixtures("batches_whole")


class SmallDevice(torch.nn.Module):
    """A real network on a device that holds ``rows`` rows: beyond that the allocator's own error is raised."""

    def __init__(self, network: torch.nn.Module, rows: int) -> None:
        super().__init__()
        self.network, self.rows = network, rows
        self.sizes: list[int] = []

    def forward(self, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        self.sizes.append(len(sample))
        if len(sample) > self.rows:
            raise torch.OutOfMemoryError("out of memory")
        return self.network(sample, *args, **kwargs)


def on_small_device(rows: int) -> tuple[LatentDiffusion, SmallDevice]:
    model = tiny.model("sd", "concat")
    device = SmallDevice(model.network, rows)
    model.network = device
    return model, device


def states_of(model: LatentDiffusion, count: int) -> list[DenoiseState]:
    return [model.prepare(canvas(), parameters("ddim", 1.0, seed, guidance=1.0), no_clock)[0] for seed in range(count)]


def run(model: LatentDiffusion, states: list[DenoiseState]) -> None:
    engine = Engine({"tiny": model}, max_rows=8)
    engine.join(states)
    while engine.live:
        engine.step()


def test_a_batch_that_does_not_fit_is_split_and_every_image_is_as_if_alone() -> None:
    model, device = on_small_device(rows=2)
    states = states_of(model, 5)
    run(model, states)
    assert not [state.error for state in states if state.error]
    assert max(device.sizes) == 5
    for seed, state in enumerate(states):
        (alone,) = run_alone(tiny.model("sd", "concat"), parameters("ddim", 1.0, seed, guidance=1.0), canvas())
        assert difference(state.latents, alone.latents) < 1e-4


def test_an_image_that_does_not_fit_even_alone_fails_with_out_of_memory() -> None:
    model, device = on_small_device(rows=0)
    states = states_of(model, 2)
    run(model, states)
    assert device.sizes == [2, 1, 1]
    for state in states:
        assert state.error is not None
        failure = failure_of(state.error)
        assert failure.code == "out_of_memory" and not failure.retryable


def test_the_engine_goes_on_after_a_full_device() -> None:
    model, device = on_small_device(rows=0)
    run(model, states_of(model, 1))
    device.rows = 8
    states = states_of(model, 2)
    run(model, states)
    assert not [state.error for state in states if state.error]


def test_a_state_that_cannot_be_stepped_leaves_its_mates_alone() -> None:
    model = tiny.model("sd", "concat")
    states = states_of(model, 3)
    states[1].latents = torch.zeros(1, 4, 3, 3)
    run(model, states)
    assert [state.error is not None for state in states] == [False, True, False]
    (alone,) = run_alone(model, parameters("ddim", 1.0, 2, guidance=1.0), canvas())
    assert difference(states[2].latents, alone.latents) < 1e-4


def test_a_worker_whose_device_call_hangs_ends_itself() -> None:
    code = """
import time
from worker.leases import Heartbeat
Heartbeat(beat=lambda: None, busy=lambda: True, beat_s=0.05, stall_s=0.3).start()
time.sleep(30)
"""
    assert (
        subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, timeout=60, check=False).returncode
        == 70
    )


def test_an_idle_worker_is_not_taken_for_a_hung_one() -> None:
    code = """
import time
from worker.leases import Heartbeat
Heartbeat(beat=lambda: None, busy=lambda: False, beat_s=0.05, stall_s=0.1).start()
time.sleep(1)
"""
    assert (
        subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, timeout=60, check=False).returncode == 0
    )
