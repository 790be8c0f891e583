"""What the families with a U-Net share: Stable Diffusion and Stable Diffusion XL."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from jobs.prompt_syntax import parts_of
from jobs.schema import PromptSyntax, PromptTokens
from worker.denoise.state import Conditioning
from worker.families.deepcache import DeepCache
from worker.families.denoising_network import DEEP
from worker.families.latent_diffusion import LatentDiffusion
from worker.families.prompt_chunks import MAX_CHUNKS, ClipReader, Encoded, encoded_alike


class UNetDiffusion(LatentDiffusion):
    """A family whose network is diffusers' ``UNet2DConditionModel``."""

    network_part = "unet"
    prompt_chunks = MAX_CHUNKS

    def __init__(self, name: str, pipeline: Any, encoding_budget_bytes: int = 0) -> None:
        super().__init__(name, pipeline, encoding_budget_bytes)
        self.features = DeepCache(pipeline.unet)

    @abstractmethod
    def clip_readers(self) -> list[ClipReader]:
        """The text encoders."""

    def prompt_tokens(self, prompt: str, syntax: PromptSyntax) -> list[PromptTokens]:
        parts = parts_of(prompt, syntax)
        return [reader.count(parts, self.prompt_chunks) for reader in self.clip_readers()]

    def encoded_texts(self, prompts: Sequence[str], syntax: PromptSyntax) -> list[Encoded]:
        """Of each prompt the texts of all encoders side by side, all of one length, and the pooled text."""
        parts = [parts_of(prompt, syntax) for prompt in prompts]
        return encoded_alike(self.clip_readers(), parts, self.prompt_chunks)

    @abstractmethod
    def arguments(self, conditioning: Conditioning) -> dict[str, Any]:
        """The U-Net's arguments beside latents and timesteps, by their names."""

    def forward(self, inputs: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        output = self.network(inputs, timesteps, **self.arguments(conditioning), return_dict=False)
        return torch.as_tensor(output[0])

    def forward_keeping(
        self, inputs: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        return torch.cat(self.features.full(inputs, timesteps, **self.arguments(conditioning)), 1)

    def forward_shallow(
        self, inputs: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        cond = {name: value for name, value in conditioning.items() if name != DEEP}
        return self.features.shallow(conditioning[DEEP], inputs, timesteps, **self.arguments(cond))


def embedded_guidance(pipeline: Any, scale: float) -> Conditioning:
    """What a U-Net distilled by latent consistency (Luo et al. 2023) takes of the scale; empty for all others."""
    width = pipeline.unet.config.time_cond_proj_dim
    if width is None:
        return {}
    embedding = pipeline.get_guidance_scale_embedding(torch.tensor([scale - 1]), embedding_dim=width)
    return {"timestep_cond": embedding.to(pipeline._execution_device, pipeline.unet.dtype)}
