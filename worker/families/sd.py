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
    """The ``sd`` family. Conditioning: ``encoder_hidden_states`` (1, tokens, width)."""

    pipeline_class = StableDiffusionInpaintPipeline
    load_options: ClassVar[dict[str, Any]] = {"safety_checker": None, "requires_safety_checker": False}
    network_part = "unet"

    def encode_prompts(self, parameters: InpaintParameters, canvas: Canvas) -> Prompts:
        # u + scale * (c - u) is u where both prompts are the same: half the work for the same image
        guided = parameters.guidance_scale > 1 and parameters.prompt != parameters.negative_prompt
        text, negative_text = self.pipeline.encode_prompt(
            parameters.prompt, self.device, 1, guided, parameters.negative_prompt
        )
        return {"encoder_hidden_states": text}, {"encoder_hidden_states": negative_text} if guided else None

    def forward(self, inputs: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        return torch.as_tensor(self.network(inputs, timesteps, **conditioning, return_dict=False)[0])
