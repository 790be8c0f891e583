"""FLUX.1 dev, schnell and Fill: a transformer over 2x2 patches of latents that predicts a flow. CLIP and T5 encode
the prompt. Dev and Fill take the guidance scale as a number; nothing is computed from a negative prompt.

The oracles are ``FluxInpaintPipeline`` and, for Fill, ``FluxFillPipeline`` of diffusers.
"""

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import FluxPipeline

from jobs.schema import TextRequest
from worker.denoise.state import Conditioning
from worker.families.flow import PATCH, linear_sigmas, pack, resolution_shift, unpack
from worker.families.latent_diffusion import LatentDiffusion, Prompts
from worker.pixels.canvas import Canvas


class Flux(LatentDiffusion):
    """The ``flux`` family: 16 latent channels, as 64 of a patch; in concat mode 384 with masked image and mask.

    Conditioning: ``encoder_hidden_states`` (1, tokens, width), ``pooled_projections`` (1, width), ``guidance`` (1,).
    """

    family = "flux"
    pipeline_class = FluxPipeline  # of the same parts as the one for inpainting, which reads no single files
    network_part = "transformer"
    encodes_image_at_full_strength = True

    def input_channels(self) -> dict[str, int]:
        latents, mask = self.latent_channels, self.latent_factor**2
        return {"recompose": PATCH**2 * latents, "concat": PATCH**2 * (2 * latents + mask)}

    def encode_prompts(self, asked: TextRequest, size: tuple[int, int]) -> Prompts:
        ((_, t5_tokens),) = self.text_readers()
        text, pooled, _ = self.pipeline.encode_prompt(
            asked.prompt, None, device=self.device, max_sequence_length=t5_tokens
        )
        cond = {"encoder_hidden_states": text, "pooled_projections": pooled}
        if self.network.config.guidance_embeds:
            cond["guidance"] = torch.full((1,), asked.guidance_scale, device=self.device)
        return cond, None

    def text_readers(self) -> list[tuple[Any, int]]:
        """T5 alone: CLIP gives one vector for the whole text. Schnell, which does not take the scale, reads half."""
        return [(self.pipeline.tokenizer_2, 512 if self.network.config.guidance_embeds else 256)]

    def forward(self, inputs: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        grid = (inputs.shape[2], inputs.shape[3])
        output = self.network(
            pack(inputs),
            timestep=timesteps.to(self.dtype) / 1000,
            txt_ids=_no_positions(conditioning["encoder_hidden_states"].shape[1], self.device),
            img_ids=_positions(grid, self.device),
            **conditioning,
            return_dict=False,
        )[0]
        return unpack(output, grid)

    def schedule(self, steps: int, grid: tuple[int, int]) -> dict[str, Any]:
        mu = resolution_shift(self.pipeline.scheduler, grid)
        return {"num_inference_steps": steps, "sigmas": linear_sigmas(steps), "mu": mu}

    def extra_channels(self, repaint: torch.Tensor, masked_image_latents: torch.Tensor, canvas: Canvas) -> torch.Tensor:
        """Masked image latents, and the mask's own pixels: those of one latent cell become its channels."""
        pixels = (self.uploaded(canvas.mask) / 255)[None, None].to(self.dtype)  # (1, 1, H, W)
        return torch.cat([masked_image_latents, F.pixel_unshuffle(pixels, self.latent_factor)], dim=1)


@lru_cache(maxsize=8)
def _no_positions(tokens: int, device: torch.device) -> torch.Tensor:
    """Of the text's tokens, (tokens, 3)."""
    return torch.zeros(tokens, 3, device=device)


@lru_cache(maxsize=64)
def _positions(grid: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Of each token: 0, its row, its column. (h / 2 * w / 2, 3)"""
    axes = (torch.arange(length, device=device).float() for length in (1, grid[0] // PATCH, grid[1] // PATCH))
    return torch.cartesian_prod(*axes)
