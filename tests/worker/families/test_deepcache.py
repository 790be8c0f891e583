"""Cached features against diffusers' own pipelines, whose U-Nets are made to see the old ones by a hook."""

from typing import Any

import pytest
import torch

from jobs.families import FAMILIES as FACTS
from jobs.schema import InpaintParameters
from tests.worker import tiny
from tests.worker.runs import TOLERANCE, asked, canvas, difference, no_clock, parameters, run_alone
from worker.engine.engine import Engine
from worker.families.latent_diffusion import LatentDiffusion
from worker.families.registry import FAMILIES

CACHING_FAMILIES = [name for name, facts in FACTS.items() if facts.caches_features]
FAMILY_MODES = [(name, mode) for name in CACHING_FAMILIES for mode in tiny.FAMILIES[name].pipelines]


def cached(interval: int, seed: int = 7, scheduler: str = "ddim", **fields: Any) -> InpaintParameters:
    return parameters(scheduler, 1.0, seed, **fields).model_copy(update={"cache_interval": interval})


def remember(unet: Any, interval: int) -> None:
    """Compute everything, and then show the last layer what the latest call of a full one found instead."""
    deep: list[torch.Tensor] = []
    calls = 0

    def swap(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        nonlocal calls
        first, skip = inputs[0].split((inputs[0].shape[1] - unet.conv_in.out_channels, unet.conv_in.out_channels), 1)
        if calls % interval == 0:
            deep[:] = [first]
        calls += 1
        return (torch.cat([deep[0], skip], 1), *inputs[1:])

    unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(swap)


def test_the_families_that_the_api_lets_through_are_those_that_can() -> None:
    can = {name for name, family in FAMILIES.items() if family.forward_shallow is not LatentDiffusion.forward_shallow}
    assert can == set(CACHING_FAMILIES)


@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
@pytest.mark.parametrize("interval", [2, 3])
@pytest.mark.parametrize(("scheduler", "guidance"), [("ddim", 4.0), ("heun", 1.0)])
def test_latents_are_those_of_diffusers_with_the_deep_features_of_earlier_calls(
    name: str, mode: str, interval: int, scheduler: str, guidance: float
) -> None:
    wanted = cached(interval, scheduler=scheduler, guidance=guidance)
    pipeline = tiny.pipeline(name, mode, scheduler)
    remember(pipeline.unet, interval)
    expected = asked(pipeline, name, wanted, canvas())
    (state,) = run_alone(tiny.model(name, mode, scheduler), wanted, canvas())
    assert difference(state.latents, expected) < TOLERANCE
    (exact,) = run_alone(tiny.model(name, mode, scheduler), cached(1, scheduler=scheduler, guidance=guidance), canvas())
    assert difference(exact.latents, expected) > TOLERANCE


@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_jobs_that_join_at_different_steps_keep_their_own_schedules_and_features(name: str, mode: str) -> None:
    model = tiny.model(name, mode)
    wishes = [cached(3, seed=1), cached(1, seed=2), cached(2, seed=3), cached(3, seed=4)]
    engine = Engine({"tiny": model}, max_rows=8)
    states = []
    for wanted in wishes:
        states += model.prepare(canvas(), wanted, no_clock)
        engine.join(states[-1:])
        engine.step()
    while engine.live:
        engine.step()
    for wanted, state in zip(wishes, states, strict=True):
        (alone,) = run_alone(tiny.model(name, mode), wanted, canvas())
        assert difference(state.latents, alone.latents) < TOLERANCE


def test_full_and_shallow_calls_never_share_a_pass_and_equal_ones_do() -> None:
    model = tiny.model("sd", "concat")
    engine = Engine({"tiny": model}, max_rows=8)
    for seed in range(3):
        engine.join(model.prepare(canvas(), cached(2, seed), no_clock))
    assert [(len(batch), batch[0].index % 2) for batch in iter(engine.step, [])] == [(3, 1), (3, 0)] * 3


def test_features_are_kept_apart_from_those_of_mates_that_have_left() -> None:
    model = tiny.model("sd", "concat")
    engine = Engine({"tiny": model}, max_rows=8)
    states = [*model.prepare(canvas(), cached(2, 1), no_clock), *model.prepare(canvas(), cached(2, 2), no_clock)]
    engine.join(states)
    engine.step()
    for state in states:
        assert state.deep is not None
        assert state.deep.shape[:2] == (2, 1)
        assert state.deep.untyped_storage().nbytes() == state.deep.nbytes
