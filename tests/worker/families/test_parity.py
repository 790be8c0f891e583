"""Our denoising loop against diffusers' own pipeline: same parts, same seed, same latents."""

from itertools import cycle

import pytest

from tests.worker import tiny
from tests.worker.runs import FAMILY_MODES, TOLERANCE, canvas, difference, no_clock, oracle, parameters, run_alone
from worker.engine.engine import Engine

FAMILY_MODE_SCHEDULERS = [
    (name, mode, scheduler) for name, mode in FAMILY_MODES for scheduler in tiny.FAMILIES[name].schedulers
]


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize(("name", "mode", "scheduler"), FAMILY_MODE_SCHEDULERS)
def test_latents_equal_those_of_diffusers(
    name: str, mode: str, scheduler: str, strength: float, guidance: float
) -> None:
    wanted, pixels = parameters(scheduler, strength, guidance=guidance), canvas()
    (state,) = run_alone(tiny.shared_model(name, mode, scheduler), wanted, pixels)
    assert difference(state.latents, oracle(name, mode, wanted, pixels)) < TOLERANCE


@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_jobs_that_join_at_different_steps_equal_the_same_jobs_run_by_diffusers(name: str, mode: str) -> None:
    schedulers = list(tiny.FAMILIES[name].schedulers)
    models = {scheduler: tiny.shared_model(name, mode, scheduler) for scheduler in schedulers}
    jobs = [
        (parameters(scheduler, strength, seed), canvas(seed))
        for scheduler, strength, seed in zip(
            cycle(schedulers), cycle((1.0, 0.6)), range(max(3, len(schedulers))), strict=False
        )
    ]
    states = [models[wanted.scheduler].prepare(pixels, wanted, no_clock)[0] for wanted, pixels in jobs]
    engine = Engine({"tiny": models[schedulers[0]]}, max_rows=8)
    batch_sizes = []
    for state in states:
        engine.join([state])
        batch_sizes += [len(engine.step()), len(engine.step())]
    while engine.live:
        batch_sizes.append(len(engine.step()))

    assert max(batch_sizes) >= 3
    for state, (wanted, pixels) in zip(states, jobs, strict=True):
        assert difference(state.latents, oracle(name, mode, wanted, pixels)) < TOLERANCE


def test_guidance_between_equal_prompts_is_not_computed_twice_and_changes_nothing() -> None:
    wanted = parameters("ddim", 1.0, guidance=4.0).model_copy(update={"prompt": "", "negative_prompt": ""})
    (state,) = run_alone(tiny.shared_model("sd", "concat"), wanted, canvas())
    assert not state.key.guided
    assert difference(state.latents, oracle("sd", "concat", wanted, canvas())) < TOLERANCE


def test_at_least_one_step_is_run() -> None:
    (state,) = run_alone(tiny.shared_model("sd", "concat"), parameters("ddim", 0.01), canvas())
    assert state.steps == 1


def test_image_k_of_n_uses_seed_plus_k() -> None:
    model = tiny.shared_model("sd", "concat")
    together = run_alone(model, parameters("ddim", 1.0, seed=5, n=2), canvas())
    alone = run_alone(model, parameters("ddim", 1.0, seed=6), canvas())
    assert difference(together[1].latents, alone[0].latents) < TOLERANCE
    assert difference(together[0].latents, alone[0].latents) > 0.1
