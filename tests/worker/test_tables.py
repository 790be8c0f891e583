"""Tabulated steps are the steps of diffusers' own schedulers, in any mixture."""

from typing import Any

import numpy as np
import pytest
import torch

from jobs.schedulers import SCHEDULERS
from jobs.schema import InpaintParameters
from tests.worker import tiny
from tests.worker.test_parity import canvas, parameters, run_alone
from worker.families.base import Canvas
from worker.sampling import begin, network_scaled, new_scheduler, noised, step_arguments
from worker.tables import TABULATED, Call, Table, step_together, tabulate

SHAPE = (1, 4, 8, 8)
TOLERANCE = 1e-5
CPU = torch.device("cpu")


class Row:
    """A scheduler of diffusers beside its table, fed with the same outputs."""

    def __init__(self, name: str, steps: int, skipped: int) -> None:
        family = SCHEDULERS[name].families[0]
        self.model = tiny.model(family, "recompose")
        self.schedule, self.skipped, self.name = self.model.schedule(steps, SHAPE[2:]), skipped, name
        self.scheduler, self.timesteps = self.begun()
        table = tabulate(name, *self.begun())
        assert table is not None
        self.table: Table = table
        self.latents = torch.randn(SHAPE, generator=torch.manual_seed(steps))
        self.summed, self.past, self.index = self.latents, list[Call](), 0

    def begun(self):  # type: ignore[no-untyped-def]
        scheduler = new_scheduler(self.name, self.model.pipeline.scheduler, seed=0)
        return scheduler, begin(scheduler, self.schedule, self.skipped, CPU)

    def step(self, output: torch.Tensor) -> None:
        arguments = step_arguments(self.scheduler, torch.Generator())
        timestep = self.timesteps[self.index]
        self.latents = self.scheduler.step(output, timestep, self.latents, **arguments, return_dict=False)[0]

    @property
    def done(self) -> bool:
        return self.index == len(self.timesteps)


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def test_rows_of_all_schedulers_at_different_steps_are_stepped_together_as_diffusers_steps_each() -> None:
    generator = torch.manual_seed(0)
    rows = [Row(name, steps, skipped) for name in TABULATED for steps, skipped in ((6, 0), (9, 4))]
    while rows := [row for row in rows if not row.done]:
        outputs = torch.randn(len(rows), *SHAPE[1:], generator=generator)
        for row, output in zip(rows, outputs.split(1), strict=True):
            row.step(output)
            row.past = [(row.summed, output), *row.past[: row.table.depth - 1]]
        stepped = step_together([(row.table, row.index, row.past) for row in rows])
        for row, summed in zip(rows, stepped.split(1), strict=True):
            row.summed, row.index = summed, row.index + 1
            assert difference(row.summed, row.latents) < TOLERANCE, (row.name, row.index)


@pytest.mark.parametrize("name", TABULATED)
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


@pytest.mark.parametrize("name", sorted(set(SCHEDULERS) - set(TABULATED)))
def test_schedulers_that_draw_noise_or_look_back_without_end_are_left_to_themselves(name: str) -> None:
    scheduler = new_scheduler(name, tiny.model("sd", "recompose").pipeline.scheduler, seed=0)
    assert tabulate(name, scheduler, begin(scheduler, {"num_inference_steps": 4}, 0, CPU)) is None


@pytest.mark.parametrize("clips", ["clip_sample", "thresholding"])
def test_a_scheduler_that_clips_is_left_to_itself(clips: str) -> None:
    loaded = tiny.model("sd", "recompose").pipeline.scheduler
    clipping = type(loaded).from_config(loaded.config, **{clips: True})
    scheduler = new_scheduler("ddim", clipping, seed=0)
    assert tabulate("ddim", scheduler, begin(scheduler, {"num_inference_steps": 4}, 0, CPU)) is None


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
