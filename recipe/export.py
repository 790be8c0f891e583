"""Trained parts -> one diffusers pipeline folder in fp16."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import StableDiffusionInpaintPipeline
from transformers import CLIPTokenizer

from recipe.latent_space import LatentSpace
from recipe.parts import make_scheduler, make_text_encoder, make_unet, make_vae


def export_pipeline(runs: Path, to: Path) -> None:
    """Puts the averaged weights of `runs` into the folder `to`, replacing what lies there in one move."""
    part, old = to.with_name(to.name + ".part"), to.with_name(to.name + ".old")
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    assemble(runs).save_pretrained(part)
    if to.exists():
        to.rename(old)
    part.rename(to)
    shutil.rmtree(old, ignore_errors=True)


def assemble(runs: Path) -> StableDiffusionInpaintPipeline:
    """The pipeline from the checkpoints of a run, in half precision."""
    space = LatentSpace.load(runs / "latent_space.pt")
    tokenizer = CLIPTokenizer.from_pretrained(runs / "tokenizer")
    vae, unet, text_encoder = make_vae(space), make_unet(space.channels), make_text_encoder(tokenizer)
    vae.decoder.load_state_dict(_averages(runs / "vae")["decoder"])
    averages = _averages(runs / "unet")
    unet.load_state_dict(averages["unet"])
    text_encoder.load_state_dict(averages["text_encoder"])
    unet.register_to_config(paints_on_fill=True)  # as `example.make_example` has it
    return StableDiffusionInpaintPipeline(
        vae=vae.half(),
        text_encoder=text_encoder.half(),
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _averages(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    averages: dict[str, dict[str, torch.Tensor]] = torch.load(folder / "checkpoint.pt", weights_only=True)["averages"]
    return averages
