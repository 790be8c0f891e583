"""Plain sampling with a pipeline folder, to look at what a run has learnt; serving has the engine for that.

diffusers' `StableDiffusionInpaintPipeline` loads such a folder but only runs networks of 4 or 9 input channels, and a
concat network over 16 latent channels has 33. This is the same loop without that check.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from diffusers import AutoencoderTiny, StableDiffusionInpaintPipeline
from torch import Tensor

from worker.training.example import latent_mask, masked_image


@dataclass(frozen=True)
class Sampling:
    """How the model is asked. `strength` below 1 starts from the noised input instead of from pure noise."""

    prompt: str = ""
    steps: int = 20
    guidance: float = 1.0
    strength: float = 1.0
    seed: int = 0


@torch.inference_mode()
def paint(pipeline: StableDiffusionInpaintPipeline, image: Tensor, mask: Tensor, ask: Sampling) -> Tensor:
    """(B, 3, H, W) in [-1, 1] and (B, 1, H, W), 1 = repaint -> (B, 3, H, W), known pixels as they were."""
    vae, scheduler = pipeline.vae, copy.deepcopy(pipeline.scheduler)
    scheduler.set_timesteps(ask.steps)
    timesteps = scheduler.timesteps[round(ask.steps * (1 - min(ask.strength, 1.0))) :]
    known = _encode(vae, masked_image(image, mask))
    noise = torch.randn(known[:1].shape, generator=torch.Generator().manual_seed(ask.seed)).expand_as(known)
    latents = noise * scheduler.init_noise_sigma
    if ask.strength < 1:
        latents = scheduler.add_noise(_encode(vae, image), noise, timesteps[:1])
    condition = torch.cat([latent_mask(mask), known], dim=1)
    for timestep in timesteps:
        sample = torch.cat([scheduler.scale_model_input(latents, timestep), condition], dim=1)
        output = _guided(pipeline, sample, timestep, ask)
        latents = scheduler.step(output, timestep, latents).prev_sample
    painted = vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)
    return torch.where(mask > 0.5, painted, image)


def _guided(pipeline: StableDiffusionInpaintPipeline, sample: Tensor, timestep: Tensor, ask: Sampling) -> Tensor:
    """One prediction, pushed away from the empty prompt's when `guidance` is above 1."""
    output: Tensor = pipeline.unet(sample, timestep, _encode_text(pipeline, ask.prompt, len(sample))).sample
    if ask.guidance <= 1:
        return output
    plain: Tensor = pipeline.unet(sample, timestep, _encode_text(pipeline, "", len(sample))).sample
    return plain + ask.guidance * (output - plain)


def _encode(vae: AutoencoderTiny, image: Tensor) -> Tensor:
    latents: Tensor = vae.encode(image).latents * vae.config.scaling_factor
    return latents


def _encode_text(pipeline: StableDiffusionInpaintPipeline, text: str, rows: int) -> Tensor:
    tokens = pipeline.tokenizer([text], padding="max_length", truncation=True, return_tensors="pt")
    states: Tensor = pipeline.text_encoder(tokens.input_ids).last_hidden_state
    return states.expand(rows, -1, -1)
