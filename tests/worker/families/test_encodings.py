"""What encoders made is kept: requests that come again encode nothing, and their bytes are the same."""

import gc
import weakref
from collections import Counter
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

from jobs.schema import InpaintParameters
from tests.factories import model_entry
from tests.worker import loras, tiny
from tests.worker.lora_requests import PLENTY, begin, choices, engine_of, job
from tests.worker.runs import FAMILY_MODES, canvas, no_clock, parameters
from worker.denoise.state import DenoiseState
from worker.families.encodings import Encodings, storage_bytes
from worker.families.latent_diffusion import LatentDiffusion
from worker.families.sd import StableDiffusion
from worker.models.loading import Loader
from worker.models.models import Models
from worker.pixels.canvas import Canvas, digest
from worker.settings import WorkerSettings


def remembering(name: str, mode: str, budget_bytes: int = PLENTY) -> LatentDiffusion:
    tiny_family = tiny.FAMILIES[name]
    return tiny_family.family("tiny", tiny.pipeline(name, mode, next(iter(tiny_family.schedulers))), budget_bytes)


def counted(model: LatentDiffusion) -> Counter[str]:
    """Calls of the model's encoders from now on, by kind."""
    calls: Counter[str] = Counter()
    words = [part for name, part in model.pipeline.components.items() if name.startswith("text_encoder") and part]
    for kind, module in [("picture", model.vae.encoder), *(("text", part) for part in words)]:
        module.register_forward_hook(lambda *_, kind=kind: calls.update([kind]))
    return calls


def asked(name: str, **changes: Any) -> InpaintParameters:
    return parameters(next(iter(tiny.FAMILIES[name].schedulers)), 0.6).model_copy(update=changes)


def tensors(state: DenoiseState) -> dict[str, torch.Tensor]:
    """All that the encoders and the draws have a part in."""
    found: dict[str, torch.Tensor] = {}
    for field in fields(state):
        value = getattr(state, field.name)
        parts = value if isinstance(value, dict) else {"": value}
        found |= {f"{field.name} {key}": part for key, part in parts.items() if isinstance(part, torch.Tensor)}
    return found


def assert_same(ours: list[DenoiseState], theirs: list[DenoiseState]) -> None:
    for one, other in zip(map(tensors, ours), map(tensors, theirs), strict=True):
        assert one.keys() == other.keys() and {"latents ", "text encoder_hidden_states"} <= one.keys()
        assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize("start_filled", [False, True])
@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_a_request_that_comes_again_encodes_nothing_and_has_the_same_bytes(
    name: str, mode: str, start_filled: bool
) -> None:
    model, plain = remembering(name, mode), tiny.model(name, mode)
    calls, seen = counted(model), []
    for seed in (7, 7, 8):
        pixels = replace(canvas(), start_filled=start_filled)
        wanted = asked(name, seed=seed)
        assert_same(model.prepare(pixels, wanted, no_clock), plain.prepare(pixels, wanted, no_clock))
        seen.append(Counter(calls))
    assert seen == [seen[0]] * 3 and calls["picture"] and calls["text"]


@pytest.mark.parametrize("budget_bytes", [0, PLENTY])
@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_the_images_of_a_request_share_their_encodings_and_each_has_its_own_draws(
    name: str, mode: str, budget_bytes: int
) -> None:
    single, model = remembering(name, mode, budget_bytes), remembering(name, mode, budget_bytes)
    once, calls = counted(single), counted(model)
    single.prepare(canvas(), asked(name), no_clock)
    states = model.prepare(canvas(), asked(name, n=3), no_clock)
    assert calls == once
    alone = [tiny.model(name, mode).prepare(canvas(), asked(name, seed=7 + k), no_clock)[0] for k in range(3)]
    assert_same(states, alone)
    assert not torch.equal(states[0].latents, states[1].latents)


def test_another_prompt_encodes_no_picture_and_another_picture_no_text() -> None:
    model = remembering("sd", "concat")
    calls = counted(model)
    model.prepare(canvas(), asked("sd"), no_clock)
    first = Counter(calls)
    model.prepare(canvas(), asked("sd", prompt="a dog"), no_clock)
    assert (calls["picture"], calls["text"]) == (first["picture"], 2 * first["text"])
    model.prepare(canvas(1), asked("sd"), no_clock)
    assert (calls["picture"], calls["text"]) == (2 * first["picture"], 2 * first["text"])


def test_one_pixel_of_image_or_mask_tells_pictures_apart() -> None:
    model, plain, pixels = remembering("sd", "concat"), tiny.model("sd", "concat"), canvas()
    image, mask = pixels.image.copy(), pixels.mask.copy()
    image[0, 0, 0] ^= 1
    mask[60, 60] = 255
    for other in (pixels, Canvas(image, pixels.mask), Canvas(pixels.image, mask)):
        assert_same(model.prepare(other, asked("sd"), no_clock), plain.prepare(other, asked("sd"), no_clock))


@pytest.mark.parametrize("change", [{"negative_prompt": "dark"}, {"guidance_scale": 1.0}, {"guidance_scale": 2.5}])
@pytest.mark.parametrize("name", ["sd", "sdxl", "flux"])
def test_all_that_the_network_is_told_tells_texts_apart(name: str, change: dict[str, Any]) -> None:
    model, plain = remembering(name, "concat"), tiny.model(name, "concat")
    for wanted in (asked(name), asked(name, **change)):
        assert_same(model.prepare(canvas(), wanted, no_clock), plain.prepare(canvas(), wanted, no_clock))


def test_sdxl_is_told_the_size_of_each_canvas() -> None:
    model, pixels = remembering("sdxl", "concat"), canvas()
    smaller = Canvas(np.ascontiguousarray(pixels.image[:, :48]), np.ascontiguousarray(pixels.mask[:, :48]))
    sizes = [model.prepare(one, asked("sdxl"), no_clock)[0].text["time_ids"][0, 1] for one in (pixels, smaller)]
    assert sizes == [64, 48]


def test_a_prompt_under_other_adapters_is_encoded_anew(tmp_path: Path) -> None:
    model, words = remembering("sd", "concat"), "encoder_hidden_states"
    for seed, lora in enumerate(("one", "two")):
        layers = loras.matrices(model.pipeline, seed, only="text_encoder")
        loras.save_diffusers(tmp_path / f"{lora}.safetensors", layers)
    sets = [choices(**scales) for scales in ({}, {"one": 1.0}, {"one": 0.5}, {"two": 1.0}, {"one": 1.0, "two": 1.0})]
    plain = engine_of(tiny.model("sd", "concat"), tmp_path)
    expected = [begin(plain, job(), *chosen).text[words] for chosen in sets]
    engine, calls = engine_of(model, tmp_path), counted(model)
    told = [begin(engine, job(), *chosen).text[words] for chosen in (*sets, *sets)]
    assert all(torch.equal(*pair) for pair in zip(told, (*expected, *expected), strict=True))
    assert len({tuple(text.flatten().tolist()) for text in told}) == len(sets)
    assert calls == {"text": 2 * len(sets), "picture": 1}  # prompt and negative prompt; adapters never touch the VAE


def test_a_vae_that_draws_nothing_is_remembered_too() -> None:
    def model(budget_bytes: int) -> LatentDiffusion:
        torch.manual_seed(0)
        pipeline = tiny.pipeline("sd", "concat", "ddim")
        pipeline.vae = AutoencoderTiny(
            encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, latent_channels=4
        ).eval()
        return StableDiffusion("tiny", pipeline, budget_bytes)

    remembers, plain = model(PLENTY), model(0)
    calls = counted(remembers)
    for seed in (7, 7, 8):
        wanted = asked("sd", seed=seed)
        assert_same(remembers.prepare(canvas(), wanted, no_clock), plain.prepare(canvas(), wanted, no_clock))
    assert calls["picture"] == 2  # image and masked image


def test_without_a_budget_nothing_is_kept() -> None:
    model = remembering("sd", "concat", 0)
    calls = counted(model)
    for count in (1, 2):
        model.prepare(canvas(), asked("sd"), no_clock)
        assert calls == {"picture": 2 * count, "text": 2 * count}
    assert (len(model.encodings), model.encodings.size_bytes) == (0, 0)


# ---- the budget


def piece(size_bytes: int) -> torch.Tensor:
    return torch.zeros(size_bytes, dtype=torch.uint8)


def test_the_least_recently_used_goes_when_the_budget_is_full() -> None:
    encodings = Encodings(100)
    for key in "abac":
        encodings.recall(key, lambda: piece(40))
        assert encodings.size_bytes <= 100
    assert [encodings.recall(key, lambda: piece(0)).nbytes for key in "acb"] == [40, 40, 0]


def test_what_is_larger_than_the_budget_drives_nothing_out() -> None:
    encodings = Encodings(100)
    encodings.recall("a", lambda: piece(60))
    encodings.recall("b", lambda: piece(101))
    assert (len(encodings), encodings.size_bytes) == (1, 60)


def test_nothing_goes_while_a_request_shares_it_and_then_the_oldest_do() -> None:
    encodings = Encodings(100)
    with encodings.sharing():
        for key in "abc":
            encodings.recall(key, lambda: piece(40))
        assert encodings.recall("a", lambda: piece(0)).nbytes == 40
    assert encodings.size_bytes == 80
    assert [encodings.recall(key, lambda: piece(0)).nbytes for key in "cab"] == [40, 40, 0]
    encodings.recall("d", lambda: piece(40))
    assert encodings.size_bytes <= 100


def test_a_budget_that_is_used_to_the_byte_is_kept() -> None:
    encodings = Encodings(100)
    for key, size_bytes in (("a", 60), ("b", 40)):
        encodings.recall(key, partial(piece, size_bytes))
    assert (len(encodings), encodings.size_bytes) == (2, 100)


def test_views_count_as_all_that_they_keep_and_once() -> None:
    whole = piece(64)
    assert storage_bytes(({"a": whole[:4], "b": whole}, None, {"c": piece(8)})) == 72


def test_arrays_of_equal_bytes_and_other_shape_have_other_digests() -> None:
    flat = np.zeros(12, np.uint8)
    assert digest(flat.reshape(3, 4)) != digest(flat.reshape(4, 3))
    assert digest(flat.reshape(3, 4)[:, ::2]) == digest(np.zeros((3, 2), np.uint8))


@pytest.mark.parametrize("at", [0, 5, 11])
def test_every_element_and_the_type_tell_digests_apart(at: int) -> None:
    flat = np.zeros(12, np.uint8)
    other = flat.copy()
    other[at] = 1
    assert digest(flat) != digest(other)
    assert digest(flat) != digest(flat.view(np.int8))


def test_an_evicted_model_releases_its_encodings(tmp_path: Path) -> None:
    tiny.pipeline("sd", "concat", "ddim").save_pretrained(tmp_path)
    entry = model_entry(source=str(tmp_path))
    loader = Loader(WorkerSettings(device="cpu", encoding_budget_bytes=10**6))
    models = Models({"a": entry, "b": entry}, loader.read, loader.read("a", entry).size_bytes)
    models.load_first()
    models["a"].prepare(canvas(), asked("sd"), no_clock)
    model = models["a"]
    assert isinstance(model, LatentDiffusion) and 0 < model.encodings.size_bytes <= 10**6
    kept = weakref.ref(model.encodings)
    del model
    assert models.ready("b", ())
    gc.collect()
    assert list(models) == ["b"] and kept() is None


OTHER_VALUES: dict[str, Any] = {
    "prompt": "another one",
    "negative_prompt": "something else",
    "guidance_scale": 3.5,
    "num_inference_steps": 3,
    "strength": 0.9,
    "seed": 77,
    "n": 2,
    "masked_content": "noise",
    "crop_padding": 5,
}


@pytest.mark.parametrize("field", OTHER_VALUES)
@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_no_field_of_a_request_meets_the_encodings_of_another_value(name: str, field: str) -> None:
    """Whatever changes, what comes from the cache is what a model without one encodes."""
    mode = next(iter(tiny.FAMILIES[name].pipelines))
    model, plain = remembering(name, mode), tiny.model(name, mode)
    first = asked(name, prompt="a bench", negative_prompt="a dog", guidance_scale=2.0)
    model.prepare(canvas(), first, no_clock)
    changed = first.model_copy(update={field: OTHER_VALUES[field]})
    assert_same(model.prepare(canvas(), changed, no_clock), plain.prepare(canvas(), changed, no_clock))
