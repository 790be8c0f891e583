"""Promises that tests/worker/test_any_request.py leaves out, for every family and mode: progress, time, soft masks."""

import time

import pytest

from jobs.schema import JobReport
from tests.worker import tiny
from tests.worker.runs import FAMILY_MODES, parameters, run_alone, soft_canvas
from tests.worker.tasks import STEPS, task, uploads
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.families.latent_diffusion import LatentDiffusion

SLEEPS_S = {"text_encode": 0.02, "vae_encode": 0.03, "denoise": 0.01, "vae_decode": 0.04}
"""What a network's call takes at least, where a test has the models slowed."""


def slowed(model: LatentDiffusion) -> LatentDiffusion:
    """Every call of its networks takes at least as long as ``SLEEPS_S`` has it."""
    components = model.pipeline.components.items()
    words = [("text_encode", part) for name, part in components if name.startswith("text_encoder") and part]
    others = [("vae_encode", model.vae.encoder), ("denoise", model.network), ("vae_decode", model.vae.decoder)]
    for phase, network in [*words, *others]:
        network.register_forward_hook(lambda *_, phase=phase: time.sleep(SLEEPS_S[phase]))
    return model


@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_jobs_in_one_batch_tell_every_step_and_where_their_time_went(name: str, mode: str) -> None:
    session = Session(Engine({"tiny": slowed(tiny.model(name, mode))}, max_rows=8), codec_threads=2)
    whole, late = task(name, 1), task(name, 2, strength=0.5)
    told: list[int] = []
    session.take(whole, uploads())
    while whole.outcome is None or late.outcome is None:
        session.turn()
        told.append(whole.step)
        if whole.step == 1 and not (late.states or session.opening):
            session.take(late, uploads())
    session.shutdown()

    assert sorted({0, *told}) == list(range(STEPS + 1)) and told == sorted(told)
    for one, steps in ((whole, STEPS), (late, STEPS // 2)):
        assert isinstance(one.outcome, JobReport), one.outcome
        spent = one.outcome.timings.model_dump()
        assert spent["steps"] == steps
        slept_ms = {phase: 1000 * seconds for phase, seconds in SLEEPS_S.items()}
        slept_ms |= {"denoise": steps * slept_ms["denoise"], "step_p50": slept_ms["denoise"]}
        assert all(spent[phase] >= slept_ms[phase] for phase in slept_ms), spent


@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_the_softer_a_mask_the_less_is_repainted(name: str, mode: str) -> None:
    model, scheduler = tiny.model(name, mode), next(iter(tiny.FAMILIES[name].schedulers))
    distance = {}
    for value in (64, 128, 254):
        (state,) = run_alone(model, parameters(scheduler, 1.0), soft_canvas(value))
        assert state.image_latents is not None
        hole = (state.mask > 0).expand_as(state.latents)
        distance[value] = float((state.latents - state.image_latents)[hole].norm())
    assert 0 < distance[64] < distance[128] < distance[254]
