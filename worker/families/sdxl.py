"""Stable Diffusion XL: a U-Net that also takes the pooled text and the picture's size.

The oracle is ``StableDiffusionXLInpaintPipeline`` of diffusers. Its own default strength is 0.9999: one step
less than 1, but from the image under almost full noise instead of from noise alone, at which the published 9-channel
network paints less sharply, as its model card says. Both mean here what they mean there.
"""

from functools import partial
from typing import Any

import torch
from diffusers import StableDiffusionXLInpaintPipeline

from jobs.schema import TextRequest
from worker.denoise.state import Conditioning
from worker.denoise.transfer import to_device
from worker.families.latent_diffusion import Prompts
from worker.families.prompt_chunks import ClipReader, Encoded
from worker.families.unet import UNetDiffusion, embedded_guidance

AESTHETIC_SCORES = (6.0, 2.5)
"""For prompt and negative prompt; only the refiner takes them."""


class StableDiffusionXL(UNetDiffusion):
    """The ``sdxl`` family, with both text encoders or (refiner) the second one alone.

    Conditioning: ``encoder_hidden_states`` (1, tokens, width), ``text_embeds`` (1, pooled width), ``time_ids`` (1, 6):
    original height and width, top and left of the crop, target height and width (Podell et al. 2023, section 2.2).
    """

    family = "sdxl"
    pipeline_class = StableDiffusionXLInpaintPipeline

    def __init__(self, name: str, pipeline: Any, encoding_budget_bytes: int = 0) -> None:
        super().__init__(name, pipeline, encoding_budget_bytes)
        if self.vae.config.force_upcast and self.vae.dtype == torch.float16:
            self.vae.float()  # it overflows in half precision

    def fault(self) -> str | None:
        takes_sizes = self.network.config.addition_embed_type == "text_time"
        return None if takes_sizes else 'the U-Net takes no sizes, so it is no SDXL one; try family = "sd"'

    def encode_prompts(self, asked: TextRequest, size: tuple[int, int]) -> Prompts:
        zeros = not asked.negative_prompt and self.pipeline.config.force_zeros_for_empty_prompt
        distilled = embedded_guidance(self.pipeline, asked.guidance_scale)
        guided = not distilled and (asked.guides or (zeros and asked.guidance_scale > 1))
        prompts = [asked.prompt, asked.negative_prompt] if guided and not zeros else [asked.prompt]
        (text, pooled), *negative = self.encoded_texts(prompts, asked.prompt_syntax)
        assert pooled is not None
        ids, negative_ids = self._size_ids(size, pooled)
        conditioning = {"encoder_hidden_states": text, "text_embeds": pooled, "time_ids": ids, **distilled}
        if not guided:
            return conditioning, None
        negative_text, negative_pooled = negative[0] if negative else (torch.zeros_like(text), torch.zeros_like(pooled))
        assert negative_pooled is not None
        return conditioning, {
            "encoder_hidden_states": negative_text,
            "text_embeds": negative_pooled,
            "time_ids": negative_ids,
        }

    def clip_readers(self) -> list[ClipReader]:
        parts = [(self.pipeline.tokenizer, self.pipeline.text_encoder)] if self.pipeline.text_encoder else []
        parts.append((self.pipeline.tokenizer_2, self.pipeline.text_encoder_2))
        return [ClipReader(tokenizer, partial(_encoded_chunk, encoder), self.device) for tokenizer, encoder in parts]

    def _size_ids(self, size: tuple[int, int], pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The canvas is the whole picture to the network: original and target size alike, nothing cut off."""
        ids = self.pipeline._get_add_time_ids(
            size, (0, 0), size, *AESTHETIC_SCORES, size, (0, 0), size, pooled.dtype, pooled.shape[-1]
        )
        return to_device(ids[0], self.device), to_device(ids[1], self.device)

    def arguments(self, conditioning: Conditioning) -> dict[str, Any]:
        added = {name: conditioning[name] for name in ("text_embeds", "time_ids")}
        distilled = conditioning.get("timestep_cond")
        text = conditioning["encoder_hidden_states"]
        return {"encoder_hidden_states": text, "timestep_cond": distilled, "added_cond_kwargs": added}


def _encoded_chunk(encoder: Any, ids: torch.Tensor, _mask: torch.Tensor) -> Encoded:
    """The last layer's input, and what comes first of an encoder with a projection: the pooled text."""
    output = encoder(ids, output_hidden_states=True)
    return output.hidden_states[-2], output[0]
