"""Adapter files of every naming and for every family, and files that do not fit."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from jobs.errors import BadLora
from tests.worker import loras, tiny
from tests.worker.lora_requests import begin, choices, engine_of, finish, job, latents
from tests.worker.loras import describe
from tests.worker.runs import TOLERANCE, difference
from worker.families.latent_diffusion import LatentDiffusion
from worker.models import peft_layers


@pytest.fixture
def model() -> LatentDiffusion:
    return tiny.model("sd", "concat")


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


def test_a_kohya_file_amounts_to_its_scale_times_alpha_over_rank_times_b_times_a(
    model: LatentDiffusion, tmp_path: Path
) -> None:
    """Layers of several ranks, with one alpha, in the U-Net and in the text encoder."""
    layers = loras.matrices(model.pipeline, uneven=True)
    loras.save_kohya(tmp_path / "uneven.safetensors", layers, alpha=2.0)
    ours = latents(engine_of(model, tmp_path), job(), *choices(uneven=0.7))
    merged = tiny.model("sd", "concat")
    loras.merge(merged.pipeline, layers, 0.7, alpha=2.0)
    assert difference(ours, latents(engine_of(merged, tmp_path), job())) < TOLERANCE
    assert difference(ours, latents(engine_of(tiny.model("sd", "concat"), tmp_path), job())) > 0.01


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_peft_naming_is_read_for_every_family(name: str, tmp_path: Path) -> None:
    model = tiny.model(name, next(iter(tiny.FAMILIES[name].pipelines)))
    layers = loras.matrices(model.pipeline, only=model.network_part)
    loras.save_diffusers(tmp_path / "diffusers.safetensors", layers)
    loras.save_peft(tmp_path / "peft.safetensors", layers)
    engine, wanted = engine_of(model, tmp_path), job(family=name)
    plain, expected = latents(engine, wanted), latents(engine, wanted, *choices(diffusers=1.0))
    assert torch.equal(latents(engine, wanted, *choices(peft=1.0)), expected)
    assert not torch.equal(plain, expected)


def test_sdxl_files_named_as_in_its_first_code_are_read(tmp_path: Path) -> None:
    """kohya trains SDXL on the network of its authors, whose blocks are numbered on."""
    model = tiny.model("sdxl", "concat")
    first_code = {"down_blocks.1.attentions.0": "input_blocks.3.1", "mid_block.attentions.0": "middle_block.1"}
    first_code |= {f"up_blocks.0.attentions.{k}": f"output_blocks.{k}.1" for k in (0, 1)}
    layers, renamed = {}, {}
    for (part, layer), both in loras.matrices(model.pipeline, only="unet").items():
        for ours, theirs in first_code.items():
            if layer.startswith(f"{ours}.transformer_blocks"):
                layers[part, layer] = both
                renamed[part, layer.replace(ours, theirs)] = both
    loras.save_diffusers(tmp_path / "diffusers.safetensors", layers)
    loras.save_kohya(tmp_path / "kohya.safetensors", renamed)
    assert describe(tmp_path / "kohya.safetensors").families == ("sdxl",)
    engine = engine_of(model, tmp_path)
    plain, expected = latents(engine, job()), latents(engine, job(), *choices(diffusers=1.0))
    assert torch.equal(latents(engine, job(), *choices(kohya=1.0)), expected)
    assert not torch.equal(plain, expected)


def test_flux_files_named_as_in_its_first_code_are_read(tmp_path: Path) -> None:
    """There one layer makes queries, keys and values: A is common to the three, and B is theirs one below the other."""
    model = tiny.model("flux", "recompose")
    made = loras.matrices(model.pipeline, only="transformer")
    places = [("transformer", f"transformer_blocks.0.attn.{layer}") for layer in ("to_q", "to_k", "to_v")]
    down, ups = made[places[0]][0], [made[place][1] for place in places]
    layers = {place: (down.clone(), up) for place, up in zip(places, ups, strict=True)}
    loras.save_diffusers(tmp_path / "diffusers.safetensors", layers)
    loras.save_kohya(tmp_path / "kohya.safetensors", {("unet", "double_blocks.0.img_attn.qkv"): (down, torch.cat(ups))})
    assert describe(tmp_path / "kohya.safetensors").families == ("flux",)
    engine, wanted = engine_of(model, tmp_path), job(family="flux")
    plain, expected = latents(engine, wanted), latents(engine, wanted, *choices(diffusers=1.0))
    assert torch.equal(latents(engine, wanted, *choices(kohya=1.0)), expected)
    assert not torch.equal(plain, expected)


def test_kohya_files_reach_the_text_encoder_too(model: LatentDiffusion, tmp_path: Path) -> None:
    layers = loras.matrices(model.pipeline)
    loras.save_diffusers(tmp_path / "diffusers.safetensors", layers)
    loras.save_kohya(tmp_path / "kohya.safetensors", layers)
    engine = engine_of(model, tmp_path)
    expected = latents(engine, job(), *choices(diffusers=1.0))
    assert hasattr(model.pipeline.text_encoder, "peft_config")
    assert torch.equal(latents(engine, job(), *choices(kohya=1.0)), expected)


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


def misfits(folder: Path) -> dict[str, str]:
    """Files that pass for adapters of the family, and what is said of each."""
    layers = loras.matrices(tiny.pipeline("sd", "concat", "ddim"), only="unet")
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
