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


ENCODERS = {"sd": 1, "sdxl": 2, "sd3": 3, "flux": 1, "qwen-image": 1}
"""Text encoders that read token by token: FLUX's CLIP computes one vector for the whole text."""


def asked(name: str, **texts: Any) -> InpaintParameters:
    return parameters(next(iter(tiny.FAMILIES[name].schedulers)), 1.0).model_copy(update=texts)


def encoded(model: LatentDiffusion, name: str, prompt: str) -> torch.Tensor:
    cond, _ = model.encode_prompts(asked(name, prompt=prompt).text, (tiny.SIZE, tiny.SIZE))
    return cond["encoder_hidden_states"]


def longest_uncut(model: LatentDiffusion) -> int:
    """Letters of the longest prompt that some encoder reads whole."""
    return next(k for k in range(600) if all(each.cut for each in model.prompt_tokens("x" * (k + 1), "plain")))


def changes_with_its_last_letter(model: LatentDiffusion, name: str, letters: int) -> bool:
    begin = "x" * (letters - 1)
    return not torch.equal(encoded(model, name, begin + "y"), encoded(model, name, begin + "z"))


@torch.inference_mode()
@pytest.mark.parametrize("name", MODES)
def test_a_prompt_counts_as_cut_from_the_first_token_on_that_no_encoder_reads(name: str) -> None:
    model = tiny.model(name, MODES[name])
    longest = longest_uncut(model)
    assert changes_with_its_last_letter(model, name, longest)
    first_lost = longest + 1 + (TEMPLATE if name == "qwen-image" else 0)
    assert not changes_with_its_last_letter(model, name, first_lost)
    counted = {letters: model.prompt_tokens("x" * letters, "plain") for letters in (longest, longest + 3)}
    assert {len(each) for each in counted.values()} == {ENCODERS[name]}
    widest = max(counted[longest + 3], key=lambda tokens: tokens.limit)
    assert (widest.used - widest.limit, widest.cut) == (3, 3)
    assert 0 in [each.cut for each in counted[longest]]


@torch.inference_mode()
def test_without_t5_the_clips_of_sd3_are_the_ones_that_read() -> None:
    model = tiny.model("sd3", "concat")
    with_t5 = longest_uncut(model)
    model.pipeline.text_encoder_3 = model.pipeline.tokenizer_3 = None
    assert longest_uncut(model) == 14 < with_t5
    assert not changes_with_its_last_letter(model, "sd3", 15)


def test_schnell_reads_half_of_what_dev_reads() -> None:
    scheduler = next(iter(tiny.FAMILIES["flux"].schedulers.values()))()
    dev, schnell = (
        tiny.FAMILIES["flux"].family("tiny", tiny.flux(64, scheduler, told_guidance=told)) for told in (True, False)
    )
    assert longest_uncut(dev) - longest_uncut(schnell) == 256


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
    used = 600 + (name == "flux")  # T5 has a token for the space before a word
    assert report.prompt_tokens is not None and report.prompt_tokens.used == used
    assert report.prompt_tokens.cut == used - report.prompt_tokens.limit > 0
    with Image.open(io.BytesIO(job.images[0])) as image:
        described = json.loads(image.info["infill"])
    assert described["approximate"] == report.approximate
    assert described["prompt_tokens"] == report.prompt_tokens.model_dump()
    short = run(name, prompt="x")[0]
    assert "prompt_cut" not in (short.approximate or ())
    assert short.prompt_tokens is not None and (short.prompt_tokens.used, short.prompt_tokens.cut) == (used - 599, 0)


def test_the_tokens_told_are_those_of_the_encoder_that_reads_least() -> None:
    report, _ = run("sd3", prompt="x" * 100)
    assert report.prompt_tokens is not None and report.prompt_tokens.model_dump() == {
        "used": 100,
        "limit": 14,
        "cut": 86,
    }
    assert "prompt_cut" not in (report.approximate or ()), "T5 reads it whole"


@pytest.mark.parametrize("name", MODES)
def test_a_negative_prompt_that_was_cut_is_named_where_it_acts(name: str) -> None:
    acts = name != "flux"
    report = run(name, negative_prompt="x" * 600)[0]
    assert ("prompt_cut" in (report.approximate or ())) is acts
    assert (report.negative_prompt_tokens is not None and report.negative_prompt_tokens.used == 600) is acts
    report = run(name, negative_prompt="x" * 600, guidance_scale=1.0)[0]
    assert "prompt_cut" not in (report.approximate or ()) and report.negative_prompt_tokens is None
