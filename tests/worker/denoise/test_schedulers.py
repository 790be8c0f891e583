"""Noise schedulers side by side: those that draw noise, those of second order, and all of them in one batch."""

from typing import Any

import pytest
import torch

from jobs.families import FAMILIES, Family
from jobs.schedulers import SCHEDULERS, network_calls
from tests.worker import tiny
from tests.worker.runs import TOLERANCE, asked, canvas, difference, no_clock, parameters, run_alone, soft_canvas
from tests.worker.tiny_schedulers import BETAS
from worker.denoise.sampling import CLASSES, begin, new_scheduler
from worker.engine.engine import Engine
from worker.families.latent_diffusion import LatentDiffusion
from worker.families.sd import StableDiffusion
from worker.pixels.masks import held

DIFFUSION = [name for name, scheduler in SCHEDULERS.items() if scheduler.law == "diffusion"]
SECOND_ORDER = ["heun", "dpmpp_sde"]


@pytest.mark.parametrize("name", [name for name in FAMILIES if name in tiny.FAMILIES])
def test_every_scheduler_that_fits_a_family_shares_its_forward_passes_and_changes_no_mate(name: Family) -> None:
    """All are made from the one scheduler that the model was loaded with."""
    model = tiny.shared_model(name, "recompose")
    fitting = [scheduler for scheduler, entry in SCHEDULERS.items() if entry.law == FAMILIES[name].law]
    jobs = [parameters(scheduler, 1.0 - 0.4 * (seed % 2), seed) for seed, scheduler in enumerate(fitting)]
    states = [model.prepare(canvas(), wanted, no_clock)[0] for wanted in jobs]
    engine = Engine({"tiny": model}, max_rows=16)
    engine.join(states)
    assert len(engine.step()) == len(fitting)
    while engine.live:
        engine.step()
    for wanted, state in zip(jobs, states, strict=True):
        (alone,) = run_alone(model, wanted, canvas())
        assert state.latents.isfinite().all()
        assert difference(state.latents, alone.latents) < TOLERANCE, wanted.scheduler


@pytest.mark.parametrize("name", CLASSES)
def test_the_fewest_steps_that_may_be_asked_for_can_be_run_and_the_most_set(name: str) -> None:
    family = SCHEDULERS[name].families[0]
    model = tiny.shared_model(family, "recompose")
    wanted = parameters(name, 1.0).model_copy(update={"num_inference_steps": SCHEDULERS[name].min_steps})
    (state,) = run_alone(model, wanted, canvas())
    assert state.latents.isfinite().all() and state.steps == wanted.num_inference_steps

    scheduler = new_scheduler(name, model.pipeline.scheduler, seed=0)
    most = SCHEDULERS[name].max_steps
    timesteps = begin(scheduler, model.schedule(most, (8, 8)), 0)
    assert -(-len(timesteps) // CLASSES[name][0].order) == most


@pytest.mark.parametrize("strength", [1.0, 0.6, 0.01])
@pytest.mark.parametrize("name", CLASSES)
def test_the_network_calls_are_known_without_the_network(name: str, strength: float) -> None:
    model = tiny.shared_model(SCHEDULERS[name].families[0], "recompose")
    wanted = parameters(name, strength)
    (state,) = model.prepare(canvas(), wanted, no_clock)
    assert network_calls(name, wanted.num_inference_steps, strength) == state.calls


def progress(model: LatentDiffusion, scheduler: str, strength: float) -> list[int]:
    """The steps done after each network call."""
    (state,) = model.prepare(canvas(), parameters(scheduler, strength), no_clock)
    engine, done = Engine({"tiny": model}, max_rows=1), []
    engine.join([state])
    while engine.live:
        engine.step()
        done.append(state.steps_done)
    assert state.error is None and state.steps == done[-1]
    return done


@pytest.mark.parametrize("scheduler", SECOND_ORDER)
def test_progress_counts_steps_where_a_step_calls_the_network_twice(scheduler: str) -> None:
    model = tiny.shared_model("sd", "recompose")
    assert progress(model, scheduler, 1.0) == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6]  # the last step has one call
    assert progress(model, scheduler, 0.6) == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("scheduler", ["ddim", "heun"])
@pytest.mark.parametrize("mode", ["concat", "recompose"])
def test_a_grey_cell_is_released_at_the_step_that_its_value_names_not_at_a_call(mode: str, scheduler: str) -> None:
    model = tiny.shared_model("sd", mode)
    (state,) = model.prepare(soft_canvas(127), parameters(scheduler, 1.0), no_clock)  # held for a little over half
    engine = Engine({"tiny": model}, max_rows=1)
    engine.join([state])
    grey, steps_held = (state.mask > 0).expand_as(state.latents), []
    while engine.live:
        step = state.index // state.scheduler.order
        engine.step()
        as_held = torch.allclose(state.latents[grey], state.noised_original()[grey])
        assert as_held == bool((held(state.mask, step, state.steps)[state.mask > 0] == 1).all())
        steps_held += [step] * as_held
    assert set(steps_held) == {0, 1, 2}


@pytest.mark.parametrize("scheduler", ["ddpm", "euler_a", "dpmpp_sde", "lcm"])
def test_a_scheduler_that_draws_noise_draws_it_from_each_images_own_seed(scheduler: str) -> None:
    model = tiny.shared_model("sd", "concat")
    together = run_alone(model, parameters(scheduler, 1.0, seed=5, n=2), canvas())
    again = run_alone(model, parameters(scheduler, 1.0, seed=5, n=2), canvas())
    alone = run_alone(model, parameters(scheduler, 1.0, seed=6), canvas())
    assert difference(together[1].latents, alone[0].latents) < TOLERANCE
    assert difference(together[0].latents, alone[0].latents) > 0.1
    assert all(torch.equal(one.latents, other.latents) for one, other in zip(together, again, strict=True))


@pytest.mark.parametrize("strength", [1.0, 0.6, 0.2])
@pytest.mark.parametrize("name", DIFFUSION)
def test_masked_content_that_is_noise_is_noise_of_unit_variance_to_the_network(name: str, strength: float) -> None:
    """Whatever scale the scheduler keeps latents at, and whichever step it begins with."""
    wanted = parameters(name, strength).model_copy(update={"masked_content": "noise"})
    (state,) = tiny.shared_model("sd", "concat").prepare(canvas(), wanted, no_clock)
    hole = (state.mask > 0).expand_as(state.latents)
    assert difference(state.scaled_latents()[hole], state.noise[hole]) < 0.01


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("name", DIFFUSION)
def test_a_network_that_predicts_velocity_equals_diffusers_too(name: str, strength: float) -> None:
    """As Stable Diffusion 2 does."""

    def pipeline() -> Any:
        made = tiny.pipeline("sd", "concat", "ddim")
        made.scheduler = CLASSES[name][0].from_config(made.scheduler.config, prediction_type="v_prediction", **BETAS)
        return made

    wanted = parameters(name.removesuffix("_karras"), strength)
    (state,) = run_alone(StableDiffusion("tiny", pipeline()), wanted, canvas())
    assert difference(state.latents, asked(pipeline(), "sd", wanted, canvas())) < TOLERANCE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CLASSES)
def test_a_scheduler_runs_in_half_precision_and_keeps_to_it(name: str, dtype: torch.dtype) -> None:
    family = SCHEDULERS[name].families[0]
    full = tiny.shared_model(family, "recompose")
    loaded_with = next(iter(tiny.FAMILIES[family].schedulers))
    half = type(full)("tiny", tiny.pipeline(family, "recompose", loaded_with).to(dtype=dtype))
    wanted = parameters(name, 0.6, guidance=2.0)
    states = [run_alone(model, wanted, canvas())[0] for model in (full, half)]
    assert states[1].latents.dtype == dtype
    assert difference(states[1].latents.float(), states[0].latents) < 0.1
