"""Prompts longer than CLIP reads at once are encoded by chunks, and words are weighted, by the rules of A1111's web UI.

diffusers encodes each chunk's text; the tiny tokenizer's chunks have 14 tokens, and a word of one letter is a token.
"""

import io
import itertools
from typing import Any

import pytest
import torch
from PIL import Image

from jobs.schema import JobReport, TextRequest
from tests.worker import tiny
from tests.worker.runs import canvas, no_clock, parameters
from tests.worker.tasks import task, uploads
from worker.engine.engine import Engine
from worker.engine.session import Session
from worker.families.prompt_chunks import MAX_CHUNKS, split
from worker.families.unet import UNetDiffusion

CHUNK = 14
CLIPS = ["sd", "sdxl"]
WORDS = "abcdefghijklmnopqrstuvwxyz"


def model_of(name: str) -> UNetDiffusion:
    model = tiny.shared_model(name, "concat")
    assert isinstance(model, UNetDiffusion)
    return model


def encoded(name: str, prompt: str, negative_prompt: str = "", syntax: Any = "plain") -> list[torch.Tensor]:
    """Text, negative text, and of SDXL the two pooled ones."""
    asked = TextRequest(prompt=prompt, negative_prompt=negative_prompt, guidance_scale=4.0, prompt_syntax=syntax)
    cond, uncond = model_of(name).encode_prompts(asked, (tiny.SIZE, tiny.SIZE))
    sides = [cond] if uncond is None else [cond, uncond]
    names = ("encoder_hidden_states", "text_embeds")
    return [side[each] for each in names if each in cond for side in sides]


def by_diffusers(name: str, prompt: str, negative_prompt: str) -> list[torch.Tensor]:
    pipeline = model_of(name).pipeline
    if name == "sd":
        return list(pipeline.encode_prompt(prompt, pipeline.device, 1, True, negative_prompt))
    return list(
        pipeline.encode_prompt(prompt=prompt, do_classifier_free_guidance=True, negative_prompt=negative_prompt or None)
    )


def text_by_diffusers(name: str, prompt: str) -> torch.Tensor:
    return by_diffusers(name, prompt, "z")[0]


def words(count: int, but: dict[int, str] | None = None) -> list[str]:
    """Words of one token each; ``but``: other ones, by their places."""
    return [(but or {}).get(at, letter) for at, letter in zip(range(count), itertools.cycle(WORDS), strict=False)]


@torch.inference_mode()
@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("negative_prompt", ["", "blur", "y" * CHUNK])
@pytest.mark.parametrize("prompt", ["", "a cat", "x" * CHUNK, "(a:1.3)"])
def test_a_prompt_of_one_chunk_has_the_bytes_that_diffusers_gives_it(
    name: str, prompt: str, negative_prompt: str
) -> None:
    if name == "sd" and prompt == negative_prompt:
        negative_prompt = "z"
    ours, theirs = encoded(name, prompt, negative_prompt), by_diffusers(name, prompt, negative_prompt)
    assert len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


@torch.inference_mode()
@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize(
    ("but", "lengths"),
    [
        ({}, [14, 14, 2]),
        ({12: ","}, [13, 14, 3]),  # behind the last comma of a full chunk
        ({3: ",", 7: ","}, [8, 14, 8]),
        ({14: ","}, [14, 1, 14, 1]),  # a comma that is the next chunk's first
        ({13: ","}, [14, 14, 2]),
        ({28: ","}, [14, 14, 2]),  # the last chunk is not full
    ],
)
def test_a_longer_prompt_is_its_chunks_one_after_another(name: str, but: dict[int, str], lengths: list[int]) -> None:
    prompt = words(30, but)
    ends = list(itertools.accumulate(lengths))
    texts = [" ".join(prompt[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
    chunks = [text_by_diffusers(name, text) for text in texts]
    text, negative, *pooled = encoded(name, " ".join(prompt), "blur")
    assert torch.equal(text, torch.cat(chunks, 1))
    empty = text_by_diffusers(name, "")
    assert torch.equal(negative, torch.cat([text_by_diffusers(name, "blur"), *[empty] * (len(lengths) - 1)], 1))
    if name == "sdxl":
        assert torch.equal(pooled[0], by_diffusers(name, texts[0], "z")[2])


def test_a_comma_far_from_the_end_of_a_chunk_ends_none() -> None:
    comma = 9
    for at, first in (((54,), 75), ((55,), 56), ((74,), 75), ((40, 60, 65), 66), ((60, 75), 75)):
        tokens = [(comma if place in at else 1, 1.0) for place in range(80)]
        assert [len(chunk) for chunk in split(tokens, comma, 75)] == [first, 80 - first]


@torch.inference_mode()
@pytest.mark.parametrize("name", CLIPS)
def test_a_long_negative_prompt_makes_the_prompt_as_long(name: str) -> None:
    text, negative, *_ = encoded(name, "cat", " ".join(words(20)))
    assert torch.equal(text, torch.cat([text_by_diffusers(name, "cat"), text_by_diffusers(name, "")], 1))
    assert negative.shape == text.shape


@torch.inference_mode()
@pytest.mark.parametrize("name", CLIPS)
def test_break_begins_a_new_chunk(name: str) -> None:
    (text, *_) = encoded(name, "a b BREAK c", "z", "a1111")
    assert torch.equal(text, torch.cat([text_by_diffusers(name, "a b"), text_by_diffusers(name, "c")], 1))
    assert torch.equal(encoded(name, "a b BREAK", "z", "a1111")[0], text_by_diffusers(name, "a b"))


@torch.inference_mode()
@pytest.mark.parametrize("name", CLIPS)
def test_beyond_the_last_chunk_a_prompt_is_cut_and_counted(name: str) -> None:
    longest, longer = (" ".join(words(count)) for count in (MAX_CHUNKS * CHUNK, MAX_CHUNKS * CHUNK + 5))
    assert torch.equal(encoded(name, longest, "z")[0], encoded(name, longer, "z")[0])
    for counted in model_of(name).prompt_tokens(longer, "plain"):
        assert counted.model_dump() == {"used": 117, "limit": 112, "cut": 5}
    for counted in model_of(name).prompt_tokens(" BREAK ".join(words(12)), "a1111"):
        assert counted.model_dump() == {"used": 12, "limit": 112, "cut": 4}


# ---- weights


def weighted(text: torch.Tensor, weights: dict[int, float]) -> torch.Tensor:
    """As ``sd_emphasis.EmphasisOriginal`` has it: tokens times their weights, the mean as before."""
    factors = torch.ones(text.shape[1])
    for place, weight in weights.items():
        factors[place] = weight
    changed = text * factors[None, :, None]
    return changed * (text.mean() / changed.mean())


def weighted_by_diffusers(name: str, prompt: str, weights: dict[int, float]) -> torch.Tensor:
    """Each encoder's text is weighted by itself; the tiny ones' have the same width."""
    text = text_by_diffusers(name, prompt)
    return torch.cat([weighted(part, weights) for part in text.chunk(len(model_of(name).clip_readers()), -1)], -1)


@torch.inference_mode()
@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize(
    ("prompt", "plain", "weights"),
    [
        ("a (b:1.3) c", "a b c", {2: 1.3}),
        ("a (b) c", "a b c", {2: 1.1}),
        ("a [b] c", "a b c", {2: 1 / 1.1}),
        ("a ((b c):1.5) d", "a b c d", {2: 1.65, 3: 1.65}),
        ("a \\(b:1.3\\) (c:0.5)", "a (b:1.3) c", {9: 0.5}),
        ("(a:0) b", "a b", {1: 0.0}),
        ("a b \\( c", "a b ( c", {}),
    ],
)
def test_words_are_weighted_as_the_web_ui_weights_them(
    name: str, prompt: str, plain: str, weights: dict[int, float]
) -> None:
    ours = encoded(name, prompt, "z", "a1111")
    theirs = by_diffusers(name, plain, "z")
    torch.testing.assert_close(ours[0], weighted_by_diffusers(name, plain, weights))
    assert all(map(torch.equal, ours[1:], theirs[1:])), "neither the negative nor a pooled text is weighted"
    assert torch.equal(ours[0], theirs[0]) == (not weights)


@torch.inference_mode()
@pytest.mark.parametrize("name", CLIPS)
def test_a_chunk_without_weights_beside_one_with_them_is_as_it_was(name: str) -> None:
    first, rest = words(14), ["(a:1.3)"]
    (text, *_) = encoded(name, " ".join([*first, *rest]), "z", "a1111")
    assert torch.equal(text[:, :16], text_by_diffusers(name, " ".join(first)))
    torch.testing.assert_close(text[:, 16:], weighted_by_diffusers(name, "a", {1: 1.3}))


@torch.inference_mode()
@pytest.mark.parametrize("name", CLIPS)
def test_plain_brackets_and_weights_are_two_encodings_of_one_cache(name: str) -> None:
    tiny_family = tiny.FAMILIES[name]
    model = tiny_family.family("tiny", tiny.pipeline(name, "concat", "ddim"), 10**7)
    wanted = parameters("ddim", 1.0).model_copy(update={"prompt": "(a:1.3)"})
    texts = [
        model.prepare(canvas(), wanted.model_copy(update={"prompt_syntax": syntax}), no_clock)[0].text
        for syntax in ("plain", "a1111", "plain")
    ]
    first, second, third = (each["encoder_hidden_states"] for each in texts)
    assert torch.equal(first, third) and not torch.equal(first, second)


# ---- batches


def painted(name: str, *asked: dict[str, Any]) -> list[bytes]:
    session = Session(Engine({"tiny": tiny.model(name, "concat")}, max_rows=8), codec_threads=1)
    jobs = [task(name, seed, **each) for seed, each in enumerate(asked, 1)]
    for job in jobs:
        session.take(job, uploads())
    session.run(jobs, timeout_s=60)
    session.shutdown()
    for job in jobs:
        assert isinstance(job.outcome, JobReport), job.outcome
    return [pixels_of(job.images[0]) for job in jobs]


def pixels_of(file: bytes) -> bytes:
    with Image.open(io.BytesIO(file)) as image:
        return image.tobytes()


@pytest.mark.parametrize("name", CLIPS)
def test_jobs_of_other_lengths_beside_it_change_nothing(name: str) -> None:
    asked: list[dict[str, Any]] = [
        {"prompt": " ".join(words(count)), "num_inference_steps": 2} for count in (3, 20, 60)
    ]
    together = painted(name, *asked)
    shifted = [
        painted(name, *[{"prompt": "z", "num_inference_steps": 1}] * at, each)[at] for at, each in enumerate(asked)
    ]
    assert together == shifted
    assert len(set(together)) == 3


@pytest.mark.parametrize("name", CLIPS)
def test_rows_of_other_lengths_share_no_pass(name: str) -> None:
    model = model_of(name)
    long = parameters("ddim", 1.0).model_copy(update={"prompt": " ".join(words(20))})
    (short_state,), (long_state,) = (
        model.prepare(canvas(), each, no_clock) for each in (parameters("ddim", 1.0), long)
    )
    assert (short_state.key.text_tokens, long_state.key.text_tokens) == (16, 32)
