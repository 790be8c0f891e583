"""Adapters in the running batch: as diffusers applies them, for their own request only, under a budget."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from peft.tuners.tuners_utils import BaseTunerLayer

from jobs.errors import BadLora
from jobs.loras import LoraFolder, describe
from jobs.schema import InpaintParameters, LoraChoice
from tests.worker import loras, tiny
from tests.worker.test_parity import FAMILY_MODES, TOLERANCE, asked, canvas, difference, no_clock, parameters
from worker import peft_layers
from worker.adapters import Adapters
from worker.engine import Engine
from worker.families.latent_diffusion import LatentDiffusion
from worker.state import DenoiseState

PLENTY = 2**30


def engine_of(model: LatentDiffusion, folder: Path, budget_bytes: int = PLENTY) -> Engine:
    return Engine({"tiny": model}, 8, Adapters(LoraFolder(str(folder)), budget_bytes))


def choices(**scales: float) -> tuple[LoraChoice, ...]:
    return tuple(LoraChoice(name=name, scale=scale) for name, scale in scales.items())


def begin(engine: Engine, wanted: InpaintParameters, *chosen: LoraChoice) -> DenoiseState:
    """As ``worker.session.Session`` does with a task."""
    model = engine.models["tiny"]
    adapters = engine.adapters.choose(chosen)
    engine.wear(model, adapters)
    (state,) = model.prepare(canvas(wanted.seed), wanted, no_clock)
    engine.join([state], adapters)
    return state


def finish(engine: Engine) -> None:
    while engine.live:
        engine.step()


def latents(engine: Engine, wanted: InpaintParameters, *chosen: LoraChoice) -> torch.Tensor:
    state = begin(engine, wanted, *chosen)
    finish(engine)
    assert state.error is None, state.error
    return state.latents


def job(seed: int = 7, scheduler: str = "ddim") -> InpaintParameters:
    return parameters(scheduler, 1.0, seed)


def tuned(model: LatentDiffusion) -> list[str]:
    """The layers that peft has wrapped."""
    parts = peft_layers.parts_of(model.pipeline).items()
    return [
        f"{part}.{name}"
        for part, network in parts
        for name, module in network.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]


@pytest.fixture
def model() -> LatentDiffusion:
    return tiny.model("sd", "concat")


@pytest.mark.filterwarnings(f"ignore:{peft_layers.SEVERAL}")
@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_every_family_applies_adapters_as_diffusers_does(name: str, mode: str, tmp_path: Path) -> None:
    model = tiny.model(name, mode)
    scheduler = next(iter(tiny.FAMILIES[name].schedulers))
    for seed, lora in enumerate(("one", "two")):
        loras.save_diffusers(tmp_path / f"{lora}.safetensors", loras.matrices(model.pipeline, seed))
    oracle = tiny.pipeline(name, mode, scheduler)
    plain = asked(oracle, name, job(scheduler=scheduler), canvas(7))
    for lora in ("one", "two"):
        oracle.load_lora_weights(str(tmp_path), weight_name=f"{lora}.safetensors", adapter_name=lora)
    oracle.set_adapters(["one", "two"], [0.8, -0.5])
    changed = asked(oracle, name, job(scheduler=scheduler), canvas(7))

    engine = engine_of(model, tmp_path)
    ours = latents(engine, job(scheduler=scheduler), *choices(one=0.8, two=-0.5))
    assert difference(ours, changed) < TOLERANCE
    assert difference(changed, plain) > 0.01
    assert difference(latents(engine, job(scheduler=scheduler)), plain) < TOLERANCE


def test_the_three_namings_of_one_adapter_act_alike(model: LatentDiffusion, tmp_path: Path) -> None:
    layers = loras.matrices(model.pipeline, only="unet")
    loras.save_diffusers(tmp_path / "diffusers.safetensors", layers)
    loras.save_peft(tmp_path / "peft.safetensors", layers)
    loras.save_kohya(tmp_path / "kohya.safetensors", layers)
    loras.save_kohya(tmp_path / "halved.safetensors", layers, alpha=loras.RANK / 2)
    engine = engine_of(model, tmp_path)
    expected = latents(engine, job(), *choices(diffusers=0.6))
    assert torch.equal(latents(engine, job(), *choices(peft=0.6)), expected)
    assert torch.equal(latents(engine, job(), *choices(kohya=0.6)), expected)
    assert torch.equal(latents(engine, job(), *choices(halved=1.2)), expected)


def test_kohya_files_reach_the_text_encoder_too(model: LatentDiffusion, tmp_path: Path) -> None:
    layers = loras.matrices(model.pipeline)
    loras.save_diffusers(tmp_path / "diffusers.safetensors", layers)
    loras.save_kohya(tmp_path / "kohya.safetensors", layers)
    engine = engine_of(model, tmp_path)
    expected = latents(engine, job(), *choices(diffusers=1.0))
    assert any(layer.startswith("text_encoder.") for layer in tuned(model))
    assert torch.equal(latents(engine, job(), *choices(kohya=1.0)), expected)


@pytest.mark.parametrize(("name", "mode"), FAMILY_MODES)
def test_a_request_without_adapters_has_the_same_bytes_before_between_and_after(
    name: str, mode: str, tmp_path: Path
) -> None:
    model = tiny.model(name, mode)
    wanted = job(scheduler=next(iter(tiny.FAMILIES[name].schedulers)))
    for seed, lora in enumerate(("one", "two")):
        loras.save_diffusers(tmp_path / f"{lora}.safetensors", loras.matrices(model.pipeline, seed))
    engine = engine_of(model, tmp_path)
    before = latents(engine, wanted)
    other = latents(engine, wanted, *choices(one=1.0))

    states = [begin(engine, wanted, *chosen) for chosen in ((), choices(one=1.0), choices(one=1.0, two=0.3))]
    sizes = []
    while engine.live:
        sizes.append(len(engine.step()))
    assert set(sizes) == {1}  # three sets of adapters, step by step in turn, on one network
    assert torch.equal(states[0].latents, before)
    assert torch.equal(states[1].latents, other)
    assert not torch.equal(states[2].latents, other)
    assert torch.equal(latents(engine, wanted), before)


def test_jobs_with_the_same_adapters_in_any_order_share_a_batch(model: LatentDiffusion, tmp_path: Path) -> None:
    for seed, lora in enumerate(("one", "two")):
        loras.save_diffusers(tmp_path / f"{lora}.safetensors", loras.matrices(model.pipeline, seed))
    engine = engine_of(model, tmp_path)
    begin(engine, job(1), *choices(one=1.0, two=0.5))
    begin(engine, job(2), *choices(two=0.5, one=1.0))
    begin(engine, job(3), *choices(one=1.0, two=0.4))
    begin(engine, job(4), *choices(one=1.0))
    begin(engine, job(5))
    assert sorted(len(engine.step()) for _ in range(4)) == [1, 1, 1, 2]


def test_the_text_is_encoded_with_the_jobs_own_adapters(model: LatentDiffusion, tmp_path: Path) -> None:
    loras.save_diffusers(tmp_path / "words.safetensors", loras.matrices(model.pipeline, only="text_encoder"))
    engine = engine_of(model, tmp_path)
    plain, changed, again = (begin(engine, job(), *chosen) for chosen in ((), choices(words=1.0), ()))
    words = "encoder_hidden_states"
    assert torch.equal(plain.text[words], again.text[words])
    assert not torch.allclose(plain.text[words], changed.text[words], atol=1e-3)
    finish(engine)


def test_a_fresh_adapter_changes_nothing(model: LatentDiffusion, tmp_path: Path) -> None:
    """B is zero before training (Hu et al. 2021)."""
    fresh = {layer: (down, torch.zeros_like(up)) for layer, (down, up) in loras.matrices(model.pipeline).items()}
    loras.save_diffusers(tmp_path / "fresh.safetensors", fresh)
    engine = engine_of(model, tmp_path)
    assert torch.equal(latents(engine, job(), *choices(fresh=1.0)), latents(engine, job()))


def test_the_dropout_of_the_training_does_not_act(model: LatentDiffusion, tmp_path: Path) -> None:
    layers = loras.matrices(model.pipeline, only="unet")
    config = {"r": loras.RANK, "lora_alpha": loras.RANK, "lora_dropout": 0.5, "target_modules": ["to_q"]}
    kept = {place: both for place, both in layers.items() if place[1].endswith("to_q")}
    metadata = {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in config.items()})}
    loras.save_diffusers(tmp_path / "dropping.safetensors", kept, metadata)
    loras.save_diffusers(tmp_path / "steady.safetensors", kept)
    engine = engine_of(model, tmp_path)
    dropping = latents(engine, job(), *choices(dropping=1.0))
    assert torch.equal(dropping, latents(engine, job(), *choices(steady=1.0)))


def test_a_file_that_was_replaced_is_another_adapter(model: LatentDiffusion, tmp_path: Path) -> None:
    engine = engine_of(model, tmp_path)
    loras.save_diffusers(tmp_path / "style.safetensors", loras.matrices(model.pipeline, 0))
    first = latents(engine, job(), *choices(style=1.0))
    running = begin(engine, job(), *choices(style=1.0))
    engine.step()
    loras.save_diffusers(tmp_path / "style.safetensors", loras.matrices(tiny.pipeline("sd", "concat", "ddim"), 1))
    second = latents(engine, job(), *choices(style=1.0))
    assert not torch.equal(first, second)
    assert torch.equal(running.latents, first)


# ---- the budget


def test_the_least_recently_used_adapters_go_when_the_budget_is_full(model: LatentDiffusion, tmp_path: Path) -> None:
    for seed, lora in enumerate(("one", "two", "three")):
        loras.save_diffusers(tmp_path / f"{lora}.safetensors", loras.matrices(model.pipeline, seed))
    engine = engine_of(model, tmp_path)
    expected = latents(engine, job(), *choices(one=1.0))
    size_bytes = engine.adapters.size_bytes
    assert size_bytes == sum(4 * (down.numel() + up.numel()) for down, up in loras.matrices(tiny_pipeline()).values())

    engine = engine_of(tiny.model("sd", "concat"), tmp_path, budget_bytes=2 * size_bytes)
    for lora in ("one", "two", "one", "three"):
        latents(engine, job(), *choices(**{lora: 1.0}))
        assert engine.adapters.size_bytes <= 2 * size_bytes
    wardrobe = engine.adapters._wardrobe(engine.models["tiny"])
    digests = {lora: engine.adapters.choose(choices(**{lora: 1.0}))[0].digest for lora in ("one", "two", "three")}
    assert set(wardrobe.loaded) == {digests["one"], digests["three"]}
    assert torch.equal(latents(engine, job(), *choices(one=1.0)), expected)


def test_an_adapter_that_a_live_state_needs_stays(model: LatentDiffusion, tmp_path: Path) -> None:
    for seed, lora in enumerate(("one", "two")):
        loras.save_diffusers(tmp_path / f"{lora}.safetensors", loras.matrices(model.pipeline, seed))
    engine = engine_of(model, tmp_path, budget_bytes=1)
    expected = [latents(engine, job(), *choices(**{lora: 1.0})) for lora in ("one", "two")]
    states = [begin(engine, job(), *choices(**{lora: 1.0})) for lora in ("one", "two")]
    engine.step()
    assert len(engine.adapters._wardrobe(model).loaded) == 2
    finish(engine)
    assert [torch.equal(state.latents, latents) for state, latents in zip(states, expected, strict=True)] == [True] * 2


def test_when_the_last_adapter_has_gone_the_network_is_as_it_was_made(model: LatentDiffusion, tmp_path: Path) -> None:
    names = [name for name, _ in model.network.named_modules()]
    loras.save_diffusers(tmp_path / "one.safetensors", loras.matrices(model.pipeline))
    engine = engine_of(model, tmp_path, budget_bytes=0)
    before = latents(engine, job())
    latents(engine, job(), *choices(one=1.0))
    assert tuned(model)
    assert torch.equal(latents(engine, job()), before)
    assert not tuned(model) and engine.adapters.size_bytes == 0
    assert [name for name, _ in model.network.named_modules()] == names


# ---- what does not fit


def tiny_pipeline() -> Any:
    return tiny.pipeline("sd", "concat", "ddim")


def misfits(folder: Path) -> dict[str, str]:
    """Files that pass for adapters of the family, and what is said of each."""
    layers = loras.matrices(tiny_pipeline(), only="unet")
    wide = {place: (torch.zeros(4, 48, *down.shape[2:]), up) for place, (down, up) in layers.items()}
    loras.save_diffusers(folder / "wide.safetensors", wide)
    elsewhere = {("unet", f"mid_block.{name}"): both for (_, name), both in layers.items()}
    loras.save_kohya(folder / "elsewhere.safetensors", elsewhere)
    first_code = {("unet", "input_blocks.40.1.transformer_blocks.0.attn1.to_q"): next(iter(layers.values()))}
    loras.save_kohya(folder / "first_code.safetensors", first_code)
    kernel = {place: (down[..., None, None], up[..., None, None]) for place, (down, up) in layers.items()}
    loras.save_diffusers(folder / "kernel.safetensors", {p: b for p, b in kernel.items() if p[1].endswith("to_q")})
    return {"wide": "48 -> ", "elsewhere": "the model has no layer", "first_code": "", "kernel": "cannot be loaded"}


@pytest.mark.parametrize("name", ["wide", "elsewhere", "first_code", "kernel"])
def test_what_does_not_fit_fails_its_own_job_and_leaves_nothing_behind(
    model: LatentDiffusion, tmp_path: Path, name: str
) -> None:
    said = misfits(tmp_path)[name]
    loras.save_diffusers(tmp_path / "good.safetensors", loras.matrices(model.pipeline))
    engine = engine_of(model, tmp_path)
    plain, good = latents(engine, job()), latents(engine, job(), *choices(good=1.0))
    running = begin(engine, job(), *choices(good=1.0))
    engine.step()
    with pytest.raises(BadLora, match=f"'{name}'.*{said}"):
        begin(engine, job(), *choices(good=0.2, **{name: 1.0}))
    finish(engine)
    assert torch.equal(running.latents, good)
    assert torch.equal(latents(engine, job()), plain)
    assert torch.equal(latents(engine, job(), *choices(good=1.0)), good)


def test_a_file_that_has_gone_since_the_job_was_accepted_is_a_bad_lora(model: LatentDiffusion, tmp_path: Path) -> None:
    with pytest.raises(BadLora, match="there is no 'gone'"):
        begin(engine_of(model, tmp_path), job(), *choices(gone=1.0))


def test_a_pipeline_without_diffusers_lora_loader_is_told_apart(model: LatentDiffusion, tmp_path: Path) -> None:
    file = loras.save_diffusers(tmp_path / "one.safetensors", loras.matrices(model.pipeline))
    network = UNet2DModel(block_out_channels=(32,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))
    with pytest.raises(BadLora, match="reads no adapters for DDPMPipeline"):
        peft_layers.load(DDPMPipeline(network, DDPMScheduler()), describe(file), "digest", {})
