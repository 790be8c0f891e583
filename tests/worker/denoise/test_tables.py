"""Tabulated steps are the steps of diffusers' own schedulers, in any mixture."""

from typing import Any

import numpy as np
import pytest
import torch

from jobs.schedulers import SCHEDULERS
from jobs.schema import InpaintParameters
from tests.worker import tiny
from tests.worker.runs import canvas, parameters, run_alone
from worker.denoise.sampling import CLASSES, begin, network_scaled, new_scheduler, noise_source, noised, step_arguments
from worker.denoise.tables import Call, step_together, tabulate
from worker.denoise.tables import Row as Stepped
from worker.pixels.canvas import Canvas

SHAPE = (1, 4, 8, 8)
TOLERANCE = 1e-5


class Row:
    """A scheduler of diffusers beside its table, fed with the same outputs; each draws its noise from the same seed."""

    def __init__(self, name: str, steps: int, skipped: int) -> None:
        family = SCHEDULERS[name].families[0]
        self.model = tiny.model(family, "recompose")
        self.schedule, self.skipped, self.name = self.model.schedule(steps, SHAPE[2:]), skipped, name
        self.scheduler, self.timesteps = self.begun()
        self.table = tabulate(*self.begun())
        self.arguments = step_arguments(self.scheduler, torch.Generator().manual_seed(steps))
        self.draw = noise_source(self.begun()[0], torch.Generator().manual_seed(steps), SHAPE, torch.float32)
        self.latents = torch.randn(SHAPE, generator=torch.manual_seed(steps))
        self.summed, self.past, self.index = self.latents, list[Call](), 0
        self.carried: torch.Tensor | None = None

    def begun(self) -> tuple[Any, torch.Tensor]:
        scheduler = new_scheduler(self.name, self.model.pipeline.scheduler, seed=0)
        return scheduler, begin(scheduler, self.schedule, self.skipped)

    def step(self, output: torch.Tensor) -> None:
        timestep = self.timesteps[self.index]
        self.latents = self.scheduler.step(output, timestep, self.latents, **self.arguments, return_dict=False)[0]

    def to_be_stepped(self, output: torch.Tensor) -> Stepped:
        self.past = [(self.summed, output), *self.past[: self.table.depth - 1]]
        draw = self.table.draws[self.index]
        return Stepped(self.table, self.index, self.past, None if draw is None else self.draw(*draw), self.carried)

    @property
    def done(self) -> bool:
        return self.index == len(self.timesteps)


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def test_rows_of_all_schedulers_at_different_steps_are_stepped_together_as_diffusers_steps_each() -> None:
    generator = torch.manual_seed(0)
    rows = [Row(name, steps, skipped) for name in CLASSES for steps, skipped in ((6, 0), (9, 4))]
    while rows := [row for row in rows if not row.done]:
        outputs = torch.randn(len(rows), *SHAPE[1:], generator=generator)
        for row, output in zip(rows, outputs.split(1), strict=True):
            row.step(output)
        pairs = zip(rows, outputs.split(1), strict=True)
        stepped, carried = step_together([row.to_be_stepped(output) for row, output in pairs])
        for row, summed in zip(rows, stepped.split(1), strict=True):
            row.summed, row.index = summed, row.index + 1
        for row, its in zip(rows, stepped.split(1) if carried is None else carried.split(1), strict=True):
            row.carried = its if row.table.carries else None
        for row in rows:
            assert difference(row.summed, row.latents) < TOLERANCE, (row.name, row.index)


@pytest.mark.parametrize("name", CLASSES)
def test_noise_levels_and_scales_are_those_of_the_scheduler(name: str) -> None:
    row = Row(name, 7, 2)
    clean, noise = torch.randn(2, *SHAPE, generator=torch.manual_seed(1))
    for call, timestep in enumerate(row.timesteps):
        row.index = call
        levels, scale = row.table.levels[call], row.table.scale[call]
        wanted = noised(row.scheduler, clean, noise, row.timesteps[call : call + 1])
        assert difference(levels[0] * clean + levels[1] * noise, wanted) < TOLERANCE
        assert difference(scale * row.latents, network_scaled(row.scheduler, row.latents, timestep)) < TOLERANCE
        row.step(noise)


@pytest.mark.parametrize("name", CLASSES)
def test_no_table_looks_back_far_and_those_that_draw_noise_draw_it_as_often_as_diffusers(name: str) -> None:
    row = Row(name, 9, 0)
    assert row.table.depth <= 3
    assert row.table.carries == (name == "unipc")
    draws = {"ddpm": 9, "lcm": 8, "euler_a": 9, "dpmpp_sde": 16}
    assert sum(draw is not None for draw in row.table.draws) == draws.get(name, 0)


@pytest.mark.parametrize("clips", ["clip_sample", "thresholding"])
def test_a_scheduler_that_clips_is_left_to_itself(clips: str) -> None:
    loaded = tiny.model("sd", "recompose").pipeline.scheduler
    clipping = type(loaded).from_config(loaded.config, **{clips: True})
    scheduler = new_scheduler("ddim", clipping, seed=0)
    table = tabulate(scheduler, begin(scheduler, {"num_inference_steps": 4}, 0))
    assert table.weights is None and not table.depth and not table.carries


def changed(**changes: Any) -> InpaintParameters:
    return parameters("ddim", 1.0).model_copy(update=changes)


def smaller(pixels: Canvas) -> Canvas:
    """The upper half: another grid of latents."""
    half = len(pixels.mask) // 2
    return Canvas(np.ascontiguousarray(pixels.image[:half]), np.ascontiguousarray(pixels.mask[:half]))


@pytest.mark.parametrize(
    ("name", "schedulers"), [("sd", ("ddim", "euler")), ("flux", ("flow_euler", "flow_euler_karras"))]
)
def test_a_model_steps_each_request_by_its_own_schedule_whatever_it_ran_before(
    name: str, schedulers: tuple[str, str]
) -> None:
    """FLUX's noise levels go by the size of the grid too. One after another on one model, and each on a fresh one."""
    first = {"scheduler": schedulers[0], "guidance_scale": 1.0, "num_inference_steps": 6}
    asked = [(changed(**first, **more), canvas()) for more in ({}, {"strength": 0.6})]
    asked += [(changed(**first), smaller(canvas())), (changed(**first | {"num_inference_steps": 7}), canvas())]
    asked += [(changed(**first | {"scheduler": schedulers[1]}), canvas())]
    used = tiny.model(name, "recompose")
    for wanted, pixels in asked:
        (state,), (alone,) = (run_alone(model, wanted, pixels) for model in (used, tiny.model(name, "recompose")))
        assert torch.equal(state.latents, alone.latents), wanted
