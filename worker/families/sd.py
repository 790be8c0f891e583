"""Stable Diffusion 1.5 and 2, and the pocket model: a U-Net with cross-attention, eps or v prediction.

The oracle is ``StableDiffusionInpaintPipeline`` of diffusers.
"""

from typing import Any, ClassVar

from diffusers import StableDiffusionInpaintPipeline

from jobs.schema import TextRequest
from worker.denoise.state import Conditioning
from worker.families.latent_diffusion import Prompts
from worker.families.unet import UNetDiffusion, embedded_guidance


class StableDiffusion(UNetDiffusion):
    """The ``sd`` family. Conditioning: ``encoder_hidden_states`` (1, tokens, width), and for a network distilled by
    latent consistency ``timestep_cond`` (1, width).
    """

    family = "sd"
    pipeline_class = StableDiffusionInpaintPipeline
    load_options: ClassVar[dict[str, Any]] = {"safety_checker": None, "requires_safety_checker": False}

    def fault(self) -> str | None:
        takes_sizes = self.network.config.addition_embed_type == "text_time"
        return 'the U-Net is one of SDXL; try family = "sdxl"' if takes_sizes else None

    def encode_prompts(self, asked: TextRequest, size: tuple[int, int]) -> Prompts:
        # u + scale * (c - u) is u where both prompts are the same: half the work for the same image
        distilled = embedded_guidance(self.pipeline, asked.guidance_scale)
        guided = asked.guides and not distilled
        text, negative_text = self.pipeline.encode_prompt(asked.prompt, self.device, 1, guided, asked.negative_prompt)
        negative = {"encoder_hidden_states": negative_text} if guided else None
        return {"encoder_hidden_states": text, **distilled}, negative

    def arguments(self, conditioning: Conditioning) -> dict[str, Any]:
        return dict(conditioning)
