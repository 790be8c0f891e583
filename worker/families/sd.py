"""Stable Diffusion 1.5 and 2, and the pocket model: a U-Net with cross-attention, eps or v prediction.

The oracle is ``StableDiffusionInpaintPipeline`` of diffusers.
"""

from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionInpaintPipeline

from jobs.schema import InpaintParameters
from worker.families.base import Canvas
from worker.families.latent_diffusion import LatentDiffusion, Prompts
from worker.state import Conditioning


class StableDiffusion(LatentDiffusion):
    """The ``sd`` family. Conditioning: ``encoder_hidden_states`` (1, tokens, width), and for a network distilled by
    latent consistency ``timestep_cond`` (1, width).
    """

    pipeline_class = StableDiffusionInpaintPipeline
    load_options: ClassVar[dict[str, Any]] = {"safety_checker": None, "requires_safety_checker": False}
    network_part = "unet"

    def fault(self) -> str | None:
        told_sizes = self.network.config.addition_embed_type == "text_time"
        return 'the U-Net is one of SDXL; try family = "sdxl"' if told_sizes else None

    def encode_prompts(self, parameters: InpaintParameters, canvas: Canvas) -> Prompts:
        # u + scale * (c - u) is u where both prompts are the same: half the work for the same image
        distilled = embedded_guidance(self.pipeline, parameters.guidance_scale)
        differ = parameters.prompt != parameters.negative_prompt
        guided = parameters.guidance_scale > 1 and differ and not distilled
        text, negative_text = self.pipeline.encode_prompt(
            parameters.prompt, self.device, 1, guided, parameters.negative_prompt
        )
        negative = {"encoder_hidden_states": negative_text} if guided else None
        return {"encoder_hidden_states": text, **distilled}, negative

    def forward(self, inputs: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        return torch.as_tensor(self.network(inputs, timesteps, **conditioning, return_dict=False)[0])


def embedded_guidance(pipeline: Any, scale: float) -> Conditioning:
    """What a U-Net distilled by latent consistency (Luo et al. 2023) is told of the scale; empty for all others."""
    width = pipeline.unet.config.time_cond_proj_dim
    if width is None:
        return {}
    embedding = pipeline.get_guidance_scale_embedding(torch.tensor([scale - 1]), embedding_dim=width)
    return {"timestep_cond": embedding.to(pipeline._execution_device, pipeline.unet.dtype)}
