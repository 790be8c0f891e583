"""Stable Diffusion 1.5 and 2, and the pocket model: a U-Net with cross-attention, eps or v prediction.

The oracle is ``StableDiffusionInpaintPipeline`` of diffusers.
"""

from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionInpaintPipeline

from jobs.schema import TextRequest
from worker.denoise.state import Conditioning
from worker.families.latent_diffusion import Prompts
from worker.families.prompt_chunks import ClipReader, Encoded
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
        prompts = [asked.prompt, asked.negative_prompt] if guided else [asked.prompt]
        (text, _), *negative = self.encoded_texts(prompts, asked.prompt_syntax)
        negative_text = {"encoder_hidden_states": negative[0][0]} if guided else None
        return {"encoder_hidden_states": text, **distilled}, negative_text

    def clip_readers(self) -> list[ClipReader]:
        return [ClipReader(self.pipeline.tokenizer, self._encoded_chunk, self.device)]

    def _encoded_chunk(self, ids: torch.Tensor, mask: torch.Tensor) -> Encoded:
        encoder = self.pipeline.text_encoder
        masked = getattr(encoder.config, "use_attention_mask", False)
        return encoder(ids, attention_mask=mask if masked else None)[0], None

    def arguments(self, conditioning: Conditioning) -> dict[str, Any]:
        return dict(conditioning)
