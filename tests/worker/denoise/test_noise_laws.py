"""Schedulers are offered for a model if they return its pictures: found from its noise levels, shown by painting."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    SchedulerMixin,
)
from numpy.typing import NDArray
from PIL import Image

from jobs.catalog import ModelEntry, load_catalog
from jobs.errors import BadModel, UnfitScheduler
from jobs.schedulers import SCHEDULERS, fitting_schedulers, network_calls
from jobs.schema import InpaintParameters, InputName, JobReport
from tests.factories import encoded, mask_with, png
from tests.worker import tiny
from tests.worker.runs import canvas, no_clock, parameters
from tests.worker.tiny_schedulers import BETAS
from worker.denoise.noise_laws import PublishedLaw, deviations, fitting
from worker.denoise.sampling import begin, new_scheduler
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.stopwatch import Stopwatch
from worker.engine.task import Task
from worker.families.base import Family
from worker.families.flow import linear_sigmas
from worker.models.loading import Loader
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "launch/sample/photo.png"
EMBEDDED = {name: entry for name, entry in load_catalog().models.items() if entry.source == "embedded"}
DIFFUSION = fitting_schedulers("sd")
FLOW = fitting_schedulers("flux")
CPU = torch.device("cpu")
LATENTS = {**BETAS, "clip_sample": False, "set_alpha_to_one": False}
ZERO_SNR = {**LATENTS, "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
COSINE = {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False}
VELOCITY = {"prediction_type": "v_prediction"}


def load(entry: ModelEntry, name: str = "embedded") -> Family:
    return Loader(WorkerSettings(device="cpu")).load(name, entry)


@pytest.fixture(scope="module", params=EMBEDDED)
def embedded(request: pytest.FixtureRequest) -> tuple[ModelEntry, Family]:
    return EMBEDDED[request.param], load(EMBEDDED[request.param])


# ---- the embedded models

Paint = Callable[[list[tuple[str, int]]], list[NDArray[Any]]]
HOLE = np.s_[36:92, 36:92]


def uploads() -> dict[InputName, bytes]:
    """The middle of the demo's photo, 128 px, and a hole of 56."""
    with Image.open(DEMO) as photo:
        left, top = (side // 2 - 64 for side in photo.size)
        image = photo.convert("RGB").crop((left, top, left + 128, top + 128))
    hole = mask_with(np.s_[HOLE], (128, 128))
    return {"image": encoded(image), "mask": png(hole)}


@pytest.fixture(scope="module")
def paint(embedded: tuple[ModelEntry, Family]) -> Iterator[Paint]:
    """What the worker paints into the hole with a scheduler and a number of steps: for each, an array of float."""
    entry, model = embedded
    small = entry.model_copy(update={"size_px": 128, "max_size_px": 128})
    session = Session(Engine({"tiny": model, model.name: model}, max_rows=8), codec_threads=1)

    def painted(asked: list[tuple[str, int]]) -> list[NDArray[Any]]:
        tasks = [Task(str(number), wish(*one), small, Stopwatch(0.0)) for number, one in enumerate(asked)]
        for task in tasks:
            session.take(task, uploads())
        session.run(tasks)
        assert all(isinstance(task.outcome, JobReport) for task in tasks), [task.outcome for task in tasks]
        pictures = [Image.open(io.BytesIO(task.images[0])).convert("RGB") for task in tasks]
        return [np.asarray(picture)[HOLE].astype(float) for picture in pictures]

    yield painted
    session.shutdown()


def wish(scheduler: str, steps: int) -> InpaintParameters:
    return parameters(scheduler, 1.0, guidance=1.0).model_copy(update={"num_inference_steps": steps, "prompt": ""})


@pytest.mark.parametrize("steps", [2, 8, 20])
def test_every_scheduler_that_is_offered_for_an_embedded_model_paints_what_ddim_paints(
    embedded: tuple[ModelEntry, Family], paint: Paint, steps: int
) -> None:
    offered = embedded[0].offered()
    expected, *found = paint([("ddim", 8), *((name, steps) for name in offered)])
    off = {name: np.abs(one - expected).mean() for name, one in zip(offered, found, strict=True)}
    assert len(off) > 3 and max(off.values()) < 3, off  # of 255; those that are not offered: 10 to 100


def test_numbers_of_steps_for_which_diffusers_makes_one_more_paint_what_others_paint(paint: Paint) -> None:
    expected, *found = paint([("ddim", 8), ("ddim", 61), ("ddpm", 61)])
    assert all(np.abs(one - expected).mean() < 3 for one in found)


def test_the_catalog_lists_what_fits_an_embedded_model(embedded: tuple[ModelEntry, Family]) -> None:
    entry, model = embedded
    assert entry.offered() == list(model.schedulers) == list(entry.schedulers or ())


def test_heun_karras_sigmas_and_the_sde_do_not_fit_the_pocket_model() -> None:
    assert set(DIFFUSION) - set(EMBEDDED["pocket"].offered()) == {"heun", "dpmpp_2m_karras", "dpmpp_sde"}


def test_a_job_with_an_unfit_scheduler_fails_at_its_first_attempt(embedded: tuple[ModelEntry, Family]) -> None:
    with pytest.raises(UnfitScheduler, match=r"'heun' cannot follow .* Those that can: ddim, ") as caught:
        embedded[1].prepare(canvas(), parameters("heun", 1.0), no_clock)
    assert caught.value.code == "unfit_scheduler" and not caught.value.retryable


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"scheduler": "heun"}, "scheduler: 'heun'"),
        ({"schedulers": ["ddim", "dpmpp_sde"]}, r"schedulers\.dpmpp_sde: 'dpmpp_sde'"),
        (
            {"presets": {"fast": {"num_inference_steps": 4, "scheduler": "dpmpp_2m_karras"}}},
            r"presets\.fast\.scheduler: 'dpmpp_2m_karras'",
        ),
    ],
    ids=str,
)
def test_a_model_whose_entry_names_an_unfit_scheduler_is_not_loaded(fields: dict[str, Any], named: str) -> None:
    plain = EMBEDDED["pocket"].model_dump(exclude={"schedulers", "presets"})
    entry = ModelEntry.model_validate({**plain, **fields})
    with pytest.raises(BadModel, match=rf"Model 'mine': {named} does not fit the model, .* Those that do: ddim, "):
        load(entry, "mine")


# ---- other laws


def unfit(published_with: SchedulerMixin) -> set[str]:
    """Those that do not fit networks of diffusion that were published with such a scheduler."""
    fit = fitting("diffusion", published_with, lambda steps, _: {"num_inference_steps": steps})
    assert fit == tuple(name for name in DIFFUSION if name in fit)  # in their order
    return set(DIFFUSION) - set(fit)


@pytest.mark.parametrize(
    "published_with",
    [
        PNDMScheduler(**BETAS, skip_prk_steps=True),
        DDIMScheduler(**LATENTS),
        DDIMScheduler(**LATENTS, **VELOCITY),
        EulerDiscreteScheduler(**BETAS, timestep_spacing="leading"),
        EulerDiscreteScheduler(**BETAS, timestep_spacing="trailing"),
        LCMScheduler(**BETAS),
        DDIMScheduler(**ZERO_SNR, **VELOCITY),
        EulerDiscreteScheduler(**BETAS, **VELOCITY, timestep_spacing="trailing", rescale_betas_zero_snr=True),
    ],
    ids=lambda one: type(one).__name__,
)
def test_every_scheduler_fits_the_noise_levels_of_stable_diffusion(published_with: SchedulerMixin) -> None:
    assert unfit(published_with) == set()


def test_what_divides_by_the_signal_does_not_fit_noise_prediction_from_pure_noise() -> None:
    assert {"ddim", "ddpm", "lcm"} < unfit(DDIMScheduler(**ZERO_SNR))


def test_what_starts_from_a_sigma_of_thousands_does_not_fit_noise_prediction() -> None:
    """The picture is lost in the difference of two large numbers; the velocity of the same levels has it."""
    assert {"euler", "dpmpp_2m", "heun"} < unfit(DDIMScheduler(**COSINE))
    assert unfit(DDIMScheduler(**COSINE, **VELOCITY)) == {"heun"}


def test_a_law_that_no_scheduler_here_knows_fits_none() -> None:
    assert unfit(EDMEulerScheduler()) == set(DIFFUSION)
    assert unfit(DDIMScheduler(**{**LATENTS, "prediction_type": "flow_prediction"})) == set(DIFFUSION)


@pytest.mark.parametrize("family", ["sd3", "flux", "qwen-image"])
def test_every_scheduler_for_flows_fits_every_family_of_them(family: str) -> None:
    for scheduler in tiny.FAMILIES[family].schedulers:
        assert list(tiny.model(family, "recompose", scheduler).schedulers) == FLOW


def test_the_schedulers_that_fit_return_the_data_and_the_others_are_far_from_them() -> None:
    """So that the limit between them is no matter of taste."""
    published = DDIMScheduler.from_pretrained(ROOT / "worker/pocket/model/scheduler")
    law = PublishedLaw("diffusion", "", "", published)
    off = {name: float(deviations(name, law, {"num_inference_steps": 8}).max()) for name in DIFFUSION}
    offered = EMBEDDED["pocket"].offered()
    assert max(off[name] for name in offered) < 1
    assert min(off[name] for name in DIFFUSION if name not in offered) > 20


# ---- what is laid out


@pytest.mark.parametrize("name", DIFFUSION)
def test_any_number_of_steps_has_so_many_network_calls_and_no_timestep_below_zero(name: str) -> None:
    published, scheduler = DDIMScheduler(**ZERO_SNR, **VELOCITY), SCHEDULERS[name]
    for steps in {2, 60, 61, 62, 103, 121, 122, 200, scheduler.max_steps}:
        if scheduler.min_steps <= steps <= scheduler.max_steps:
            made = new_scheduler(name, published, seed=0)
            timesteps = begin(made, {"num_inference_steps": steps}, 0)
            assert len(timesteps) == network_calls(name, steps, 1.0), steps
            assert timesteps.min() >= 0, steps
            assert not hasattr(made, "sigmas") or (len(made.sigmas) == len(timesteps) + 1 and made.sigmas[-1] == 0)


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_a_scheduler_clips_only_if_the_published_one_does(name: str) -> None:
    for published in (EulerDiscreteScheduler(**BETAS), PNDMScheduler(**BETAS), DDIMScheduler(**LATENTS)):
        assert new_scheduler(name, published, seed=0).config.clip_sample is False
    for published in (DDIMScheduler(**BETAS, clip_sample=True), DDPMScheduler(**BETAS, clip_sample=True)):
        assert new_scheduler(name, published, seed=0).config.clip_sample is True


def test_levels_that_are_no_numbers_are_refused_before_anything_is_run() -> None:
    """diffusers stretches the noise levels of Qwen-Image between the first and the last, which are one and the same."""
    published = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.02)
    schedule = {"num_inference_steps": 1, "sigmas": linear_sigmas(1), "mu": 0.7}
    with pytest.raises(UnfitScheduler, match="num_inference_steps: in 1"):
        begin(new_scheduler("flow_euler", published, seed=0), schedule, 0)
