"""A prompt of which a part reaches no text encoder is named in the job's report and in its picture."""

import io
import json
from typing import Any

import pytest
import torch
from PIL import Image

from jobs.schema import InpaintParameters, JobReport
from tests.worker import tiny
from tests.worker.runs import parameters
from tests.worker.tasks import task, uploads
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.task import Task
from worker.families.latent_diffusion import LatentDiffusion

MODES = {name: next(iter(family.pipelines)) for name, family in tiny.FAMILIES.items()}
TEMPLATE = 13
"""Tokens behind the prompt in Qwen's template, which are cut off before the prompt is: one a byte here."""


def asked(name: str, **texts: Any) -> InpaintParameters:
    return parameters(next(iter(tiny.FAMILIES[name].schedulers)), 1.0).model_copy(update=texts)


def encoded(model: LatentDiffusion, name: str, prompt: str) -> torch.Tensor:
    cond, _ = model.encode_prompts(asked(name, prompt=prompt).text, (tiny.SIZE, tiny.SIZE))
    return cond["encoder_hidden_states"]


def longest_uncut(model: LatentDiffusion, name: str) -> int:
    """Letters of the longest prompt that is not cut."""
    return next(k for k in range(600) if model.prompts_cut(asked(name, prompt="x" * (k + 1)), guided=False))


def changes_with_its_last_letter(model: LatentDiffusion, name: str, letters: int) -> bool:
    begin = "x" * (letters - 1)
    return not torch.equal(encoded(model, name, begin + "y"), encoded(model, name, begin + "z"))


@torch.inference_mode()
@pytest.mark.parametrize("name", MODES)
def test_a_prompt_counts_as_cut_from_the_first_token_on_that_no_encoder_reads(name: str) -> None:
    model = tiny.model(name, MODES[name])
    longest = longest_uncut(model, name)
    assert changes_with_its_last_letter(model, name, longest)
    first_lost = longest + 1 + (TEMPLATE if name == "qwen-image" else 0)
    assert not changes_with_its_last_letter(model, name, first_lost)


@torch.inference_mode()
def test_without_t5_the_clips_of_sd3_are_the_ones_that_read() -> None:
    model = tiny.model("sd3", "concat")
    with_t5 = longest_uncut(model, "sd3")
    model.pipeline.text_encoder_3 = model.pipeline.tokenizer_3 = None
    assert longest_uncut(model, "sd3") == 14 < with_t5
    assert not changes_with_its_last_letter(model, "sd3", 15)


def test_schnell_reads_half_of_what_dev_reads() -> None:
    scheduler = next(iter(tiny.FAMILIES["flux"].schedulers.values()))()
    dev, schnell = (
        tiny.FAMILIES["flux"].family("tiny", tiny.flux(64, scheduler, told_guidance=told)) for told in (True, False)
    )
    assert longest_uncut(dev, "flux") - longest_uncut(schnell, "flux") == 256


def run(name: str, **asked: Any) -> tuple[JobReport, Task]:
    session = Session(Engine({"tiny": tiny.model(name, MODES[name])}, max_rows=8), codec_threads=1)
    job = task(name, 1, num_inference_steps=1, **asked)
    session.take(job, uploads())
    session.run([job], timeout_s=60)
    session.shutdown()
    assert isinstance(job.outcome, JobReport), job.outcome
    return job.outcome, job


@pytest.mark.parametrize("name", MODES)
def test_the_report_and_the_picture_name_a_prompt_that_was_cut(name: str) -> None:
    report, job = run(name, prompt="x" * 600)
    assert report.approximate is not None and "prompt_cut" in report.approximate
    with Image.open(io.BytesIO(job.images[0])) as image:
        assert json.loads(image.info["infill"])["approximate"] == report.approximate
    assert "prompt_cut" not in (run(name, prompt="x")[0].approximate or ())


@pytest.mark.parametrize("name", MODES)
def test_a_negative_prompt_that_was_cut_is_named_where_it_acts(name: str) -> None:
    acts = name != "flux"
    assert ("prompt_cut" in (run(name, negative_prompt="x" * 600)[0].approximate or ())) is acts
    assert "prompt_cut" not in (run(name, negative_prompt="x" * 600, guidance_scale=1.0)[0].approximate or ())
