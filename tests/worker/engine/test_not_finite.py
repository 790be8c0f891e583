"""Infinite or no numbers end the job that they are in, are kept nowhere, and touch no other job."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import AutoencoderTiny
from PIL import Image

from jobs.errors import NotFinite
from jobs.loras import LoraFolder
from jobs.schema import JobReport, LoraChoice
from tests.worker import loras, tiny
from tests.worker.lora_requests import PLENTY
from tests.worker.runs import FAMILY_MODES, canvas, no_clock, parameters, run_alone
from tests.worker.tasks import task, uploads
from worker.denoise.modes import FillMode
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.engine.task import Task
from worker.families.encodings import Encodings
from worker.families.latent_diffusion import LatentDiffusion
from worker.families.sd import StableDiffusion
from worker.models.adapters import Adapters
from worker.queue.failures import failure_of

NAN, INF = float("nan"), float("inf")


def run(model: LatentDiffusion, tasks: Sequence[Task], adapters: Adapters | None = None) -> list[np.ndarray | str]:
    """What becomes of tasks that are run together: the picture, or the code that the job fails with."""
    session = Session(Engine({"tiny": model}, max_rows=8, adapters=adapters), codec_threads=1)
    for one in tasks:
        session.take(one, uploads())
    session.run(list(tasks))
    session.shutdown()
    return [ended(one) for one in tasks]


def ended(one: Task) -> np.ndarray | str:
    if isinstance(one.outcome, JobReport):
        with Image.open(io.BytesIO(one.images[0])) as picture:
            return np.asarray(picture).astype(int)
    assert isinstance(one.outcome, Exception)
    failure = failure_of(one.outcome)
    assert not failure.retryable
    return failure.code


def same(one: np.ndarray | str, other: np.ndarray | str) -> bool:
    """But for the rounding of a batch."""
    return isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and np.abs(one - other).max() <= 1


# ---- latents


def forgetting_a_word(mode: str = "concat") -> LatentDiffusion:
    """A model whose text encoder has no numbers for the letter z."""
    pipeline = tiny.pipeline("sd", mode, "ddim")
    (number,) = pipeline.tokenizer("z", add_special_tokens=False).input_ids
    pipeline.text_encoder.get_input_embeddings().weight.data[number] = NAN
    return StableDiffusion("tiny", pipeline, PLENTY)


@pytest.mark.parametrize("mode", ["concat", "recompose"])
def test_a_job_whose_latents_are_no_numbers_fails_and_its_mates_are_as_without_it(mode: str) -> None:
    mates = run(forgetting_a_word(mode), [task("sd", 1), task("sd", 2)])
    bad = task("sd", 3, prompt="z")
    first, failed, second = run(forgetting_a_word(mode), [task("sd", 1), bad, task("sd", 2)])
    assert failed == "not_finite"
    assert same(first, mates[0]) and same(second, mates[1])
    assert isinstance(bad.outcome, NotFinite) and "without adapters" in str(bad.outcome)
    assert "weights are damaged" in str(bad.outcome)  # in float32 nothing else is left


def test_an_adapter_that_overflows_fails_its_own_job_only(tmp_path: Path) -> None:
    model = tiny.model("sd", "concat")
    layers = loras.matrices(model.pipeline, only="unet")
    loras.save_diffusers(tmp_path / "bad.safetensors", {name: (a, b * 1e30) for name, (a, b) in layers.items()})
    adapters = Adapters(LoraFolder(str(tmp_path)), PLENTY)
    (alone,) = run(tiny.model("sd", "concat"), [task("sd", 1)])
    bad = task("sd", 1, loras=(LoraChoice(name="bad"),))
    assert run(model, [bad], adapters) == ["not_finite"]
    failed, mate = run(model, [task("sd", 1, loras=(LoraChoice(name="bad"),)), task("sd", 1)], adapters)
    assert failed == "not_finite" and same(mate, alone)


def test_half_precision_is_named_as_a_cause() -> None:
    model = overflowing()
    with torch.inference_mode(), pytest.raises(NotFinite, match='float16: give it dtype = "bfloat16" or "float32"'):
        model.decode_finite(torch.full((1, 4, 8, 8), NAN).half())


@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
@pytest.mark.parametrize("value", [NAN, INF])
def test_one_latent_that_is_not_finite_is_found_in_every_family(name: str, mode: str, value: float) -> None:
    model = tiny.model(name, mode)
    states = run_alone(model, parameters(next(iter(tiny.FAMILIES[name].schedulers)), 1.0, n=2), canvas())
    assert model.finish(states).shape == (2, 64, 64, 3)
    states[1].latents = states[1].latents.clone()
    states[1].latents[0, 0, 0, 0] = value
    with pytest.raises(NotFinite, match="model 'tiny' has come out as infinite or no numbers"):
        model.finish(states)
    assert model.finish(states[:1]).shape == (1, 64, 64, 3)


def test_infinite_latents_are_found_though_the_vae_makes_pixels_of_them() -> None:
    """That of the pocket model bounds what it decodes: of infinite latents it makes a colour."""
    model = with_small_vae()
    bounded = torch.full((1, 4, 8, 8), INF)
    with torch.inference_mode():
        assert model.decode(bounded).isfinite().all()
        with pytest.raises(NotFinite):
            model.decode_finite(bounded)


def with_small_vae() -> LatentDiffusion:
    torch.manual_seed(0)
    pipeline = tiny.pipeline("sd", "concat", "ddim")
    blocks = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4}
    pipeline.vae = AutoencoderTiny(**blocks, latent_channels=4).eval()
    return StableDiffusion("tiny", pipeline)


# ---- pixels


def overflowing(dtype: torch.dtype = torch.float16, offloaded: bool = False) -> LatentDiffusion:
    """A model whose decoder has activations above what float16 can hold, 65,504; its weights are below."""
    pipeline = tiny.pipeline("sd", "concat", "ddim").to(dtype=torch.float16)
    pipeline.vae.decoder.conv_in.weight.data *= 3e5
    assert pipeline.vae.decoder.conv_in.weight.isfinite().all()
    pipeline = pipeline.to(dtype=dtype)
    if offloaded:
        cpu_offload(pipeline.vae, torch.device("cpu"), offload_buffers=True)
    return StableDiffusion("tiny", pipeline)


@pytest.mark.parametrize("offloaded", [False, True])
def test_a_vae_that_overflows_in_half_precision_decodes_in_float32_and_is_as_before(offloaded: bool) -> None:
    model = overflowing(offloaded=offloaded)
    before = {name: weight.clone() for name, weight in model.vae.state_dict().items()}
    latents = torch.randn(2, 4, 8, 8, generator=torch.manual_seed(0)).half()
    with torch.inference_mode():
        assert not model.decode(latents).isfinite().all()
        expected = overflowing(torch.float32).decode(latents.float())
        for _ in range(2):
            torch.testing.assert_close(model.decode_finite(latents), expected, atol=2e-3, rtol=2e-3)
    after = model.vae.state_dict()
    assert model.vae.dtype == torch.float16
    assert all(weight.is_meta or torch.equal(weight, after[name]) for name, weight in before.items())


def test_a_job_of_such_a_vae_succeeds_with_the_picture_of_float32() -> None:
    (half,) = run(overflowing(), [task("sd", 1)])
    (full,) = run(overflowing(torch.float32), [task("sd", 1)])
    assert isinstance(half, np.ndarray) and isinstance(full, np.ndarray)
    assert np.abs(half - full).mean() < 2 and half.max() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_vae_that_makes_no_numbers_in_float32_either_fails_the_job(dtype: torch.dtype) -> None:
    pipeline = tiny.pipeline("sd", "concat", "ddim").to(dtype=dtype)
    pipeline.vae.decoder.conv_out.bias.data[0] = NAN
    model, bad = StableDiffusion("tiny", pipeline), task("sd", 1)
    assert run(model, [bad]) == ["not_finite"]
    assert "VAE of model 'tiny' makes infinite or no numbers of a finite picture" in str(bad.outcome)
    assert model.vae.dtype == dtype


def test_what_a_fill_loses_is_decoded_in_float32_too_where_the_vae_overflows() -> None:
    """A network that paints on a fill adds what decoding the fill loses."""
    model = overflowing()
    model.mode = FillMode()
    (painted,) = run(model, [task("sd", 1)])
    assert isinstance(painted, np.ndarray)


# ---- encoders


def test_an_encoder_that_makes_no_numbers_fails_the_job_and_leaves_nothing_for_the_next() -> None:
    pipeline = tiny.pipeline("sd", "concat", "ddim")
    sound = pipeline.vae.encoder.conv_in.bias.data.clone()
    model = StableDiffusion("tiny", pipeline, PLENTY)
    pipeline.vae.encoder.conv_in.bias.data[0] = NAN
    assert run(model, [task("sd", 1)]) == ["not_finite"]
    pipeline.vae.encoder.conv_in.bias.data.copy_(sound)
    (again,) = run(model, [task("sd", 1)])
    (expected,) = run(tiny.model("sd", "concat"), [task("sd", 1)])
    assert same(again, expected)


def test_a_text_without_numbers_is_not_kept_and_others_are() -> None:
    model = forgetting_a_word()
    asked = parameters("ddim", 1.0, guidance=1.0)
    for prompt, kept in (("a cat", 2), ("z", 2), ("a dog", 3)):
        model.prepare(canvas(), asked.model_copy(update={"prompt": prompt}), no_clock)
        assert len(model.encodings) == kept, prompt  # the picture counts as one


@pytest.mark.parametrize("bad", [torch.tensor([1.0, NAN]), ({"a": torch.zeros(2)}, {"b": torch.tensor(INF).half()})])
def test_what_is_not_finite_is_made_anew_each_time(bad: Any) -> None:
    encodings = Encodings(PLENTY)
    with encodings.sharing():
        assert encodings.recall("key", lambda: bad) is bad
        assert encodings.recall("key", lambda: torch.zeros(2)).isfinite().all()
    assert (len(encodings), encodings.size_bytes) == (1, 8)
