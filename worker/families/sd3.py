"""Stable Diffusion 3 and 3.5: a multimodal transformer that predicts a flow. Two CLIPs and T5 encode the prompt.

The oracle is ``StableDiffusion3InpaintPipeline`` of diffusers, except that it forgets the VAE's shift when it decodes.
"""

from typing import Any

import torch
from diffusers import StableDiffusion3InpaintPipeline

from jobs.schema import TextRequest
from worker.denoise.state import Conditioning
from worker.families.flow import resolution_shift
from worker.families.latent_diffusion import LatentDiffusion, Prompts

T5_TOKENS = 256
"""Tokens of a prompt that T5 reads, as by default in diffusers' pipeline."""


class StableDiffusion3(LatentDiffusion):
    """The ``sd3`` family: 16 latent channels, 33 input channels in concat mode.

    Conditioning: ``encoder_hidden_states`` (1, tokens, width), ``pooled_projections`` (1, width).
    """

    family = "sd3"
    pipeline_class = StableDiffusion3InpaintPipeline
    network_part = "transformer"

    def encode_prompts(self, asked: TextRequest, size: tuple[int, int]) -> Prompts:
        guided = asked.guides
        text, negative, pooled, negative_pooled = self.pipeline.encode_prompt(
            asked.prompt,
            None,
            None,
            device=self.device,
            do_classifier_free_guidance=guided,
            negative_prompt=asked.negative_prompt,
            max_sequence_length=T5_TOKENS,
        )
        cond = {"encoder_hidden_states": text, "pooled_projections": pooled}
        uncond = {"encoder_hidden_states": negative, "pooled_projections": negative_pooled}
        return cond, uncond if guided else None

    def text_readers(self) -> list[tuple[Any, int]]:
        t5 = [] if self.pipeline.text_encoder_3 is None else [(self.pipeline.tokenizer_3, T5_TOKENS)]
        return [*super().text_readers(), *t5]

    def forward(self, inputs: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        return torch.as_tensor(self.network(inputs, timestep=timesteps, **conditioning, return_dict=False)[0])

    def schedule(self, steps: int, grid: tuple[int, int]) -> dict[str, Any]:
        return {"num_inference_steps": steps, "mu": resolution_shift(self.pipeline.scheduler, grid)}
