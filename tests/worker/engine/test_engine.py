"""The engine among failing states and full devices; whose turn it is, and how many share a pass."""

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from jobs.speed import Speed
from tests.worker import tiny
from tests.worker.runs import canvas, difference, no_clock, parameters, run_alone
from worker.denoise.state import DenoiseState
from worker.engine.engine import Engine
from worker.families.latent_diffusion import LatentDiffusion
from worker.pixels.canvas import Canvas
from worker.queue.failures import failure_of

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
        assert state.done
        (alone,) = run_alone(tiny.model("sd", "concat"), parameters("ddim", 1.0, seed, guidance=1.0), canvas())
        assert difference(state.latents, alone.latents) < 1e-4


@pytest.mark.parametrize(
    ("fit", "count", "first"), [(2, 5, [5, 2, 3, 1, 2]), (3, 8, [8, 4, 2, 2, 4, 2, 2]), (1, 2, [2, 1, 1])]
)
def test_after_a_split_no_more_rows_are_tried_than_fitted(fit: int, count: int, first: list[int]) -> None:
    model, device = on_small_device(rows=fit)
    states = states_of(model, count)
    run(model, states)
    assert not [state.error for state in states if state.error]
    assert device.sizes[: len(first)] == first
    assert max(device.sizes[len(first) :]) <= fit


def test_once_no_image_of_a_size_is_left_the_rows_that_fitted_are_forgotten() -> None:
    model, device = on_small_device(rows=2)
    engine = Engine({"tiny": model}, max_rows=8)
    engine.join(states_of(model, 4))
    while engine.live:
        engine.step()
    device.rows = 8
    device.sizes.clear()
    states = states_of(model, 4)
    engine.join(states)
    engine.step()
    assert device.sizes == [4] and engine.limit(states[0].key) == 8


def test_a_bad_state_in_a_batch_lowers_no_limit() -> None:
    model = tiny.model("sd", "concat")
    states = states_of(model, 3)
    states[1].latents = torch.zeros(1, 4, 3, 3)
    engine = Engine({"tiny": model}, max_rows=8)
    engine.join(states)
    engine.step()
    assert engine.limit(states[0].key) == 8


def test_a_failed_state_keeps_nothing_of_what_was_computed() -> None:
    """The frames of its error would hold the activations until the next full garbage collection."""
    model = tiny.model("sd", "concat")
    made: list[weakref.ref[torch.Tensor]] = []

    def fill(*_: Any) -> None:
        activations = torch.zeros(8)
        made.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("out of memory")

    model.network.mid_block.register_forward_pre_hook(fill)
    states = states_of(model, 2)
    gc.disable()
    try:
        run(model, states)
        assert all(isinstance(state.error, torch.OutOfMemoryError) for state in states)
        assert len(made) == 3 and not [ref for ref in made if ref() is not None]
    finally:
        gc.enable()


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


def test_a_pass_that_is_split_steps_every_image_of_it_once() -> None:
    model, _ = on_small_device(rows=2)
    states = states_of(model, 5)
    engine = Engine({"tiny": model}, max_rows=8)
    engine.join(states)
    assert engine.step() == states
    assert [state.index for state in states] == [1] * 5
    assert engine.live == states  # none of them is done


def test_a_step_that_fails_for_all_ends_all_of_its_pass_with_the_error() -> None:
    """Which would otherwise be stepped again and again."""
    model = tiny.model("sd", "recompose")
    states = states_of(model, 2)
    states[0].image_latents = None
    run(model, states)
    assert [type(state.error) for state in states] == [AssertionError] * 2
    late = states_of(model, 1)
    run(model, late)
    assert late[0].error is None and late[0].done


def test_keys_take_turns_and_whoever_joins_waits_behind_those_who_wait_already() -> None:
    model = tiny.model("sd", "concat")
    asked = [parameters(name, 1.0, guidance=scale) for name, scale in (("ddim", 1.0), ("ddim", 4.0))]
    plain, guided = (model.prepare(canvas(), wanted, no_clock)[0] for wanted in asked)
    assert plain.key != guided.key
    engine = Engine({"tiny": model}, max_rows=8)
    engine.join([plain])
    engine.join([guided])
    turns = [engine.step() for _ in range(4)]
    assert turns == [[plain], [guided], [plain], [guided]]
    (small,) = model.prepare(smaller(), asked[0], no_clock)
    engine.join([small])
    assert [engine.step() for _ in range(4)] == [[plain], [guided], [small], [plain]]
    while engine.live:
        engine.step()
    assert plain.done and guided.done and small.done


def smaller() -> Canvas:
    pixels = canvas()
    return Canvas(np.ascontiguousarray(pixels.image[:32]), np.ascontiguousarray(pixels.mask[:32]))


@pytest.mark.parametrize(
    ("best_rows", "max_rows", "plain", "guided"),
    [(5.0, 8, 5, 2), (20.0, 8, 8, 8), (0.4, 8, 2, 1), (1.0, 1, 1, 1), (None, 8, 8, 8), (4.6, 8, 5, 2)],
)
def test_a_pass_has_as_many_images_as_its_model_gains_from(
    best_rows: float | None, max_rows: int, plain: int, guided: int
) -> None:
    """Two rows an image where guidance is computed, and never more images than the setting."""
    model = tiny.model("sd", "concat")
    measured = Speed(area_px=64 * 64, pass_s=1, row_s=1, codec_s=0, best_rows=best_rows)
    engine = Engine({"tiny": model}, max_rows, speeds={"tiny": [measured]})
    keys = [model.prepare(canvas(), parameters("ddim", 1.0, guidance=scale), no_clock)[0].key for scale in (1.0, 4.0)]
    assert [engine.area_px(key) for key in keys] == [64 * 64] * 2
    assert [engine.limit(key) for key in keys] == [plain, guided]
    assert Engine({"tiny": model}, max_rows).limit(keys[0]) == max_rows
