"""Qwen-Image: a transformer over 2x2 patches of latents that predicts a flow. Qwen2.5-VL encodes the prompt.

The oracle is ``QwenImageInpaintPipeline`` of diffusers. Its VAE is one for video: a picture is a film of one frame.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import QwenImageInpaintPipeline
from torch.nn.utils.rnn import pad_sequence

from jobs.schema import PromptSyntax, PromptTokens, TextRequest
from worker.denoise.state import Conditioning
from worker.denoise.transfer import to_device
from worker.families.flow import PATCH, linear_sigmas, pack, resolution_shift, unpack
from worker.families.latent_diffusion import LatentDiffusion, Prompts, tokens_read

TEXT_TOKENS = 512
"""Tokens of a prompt that are read, those of the template behind it included."""

COMPILED_TOKENS = 128
"""Tokens of a prompt in compiled calls; those with a longer prompt are not compiled."""


class QwenImage(LatentDiffusion):
    """The ``qwen-image`` family: 16 latent channels, as 64 of a patch; recomposition only.

    Conditioning: ``encoder_hidden_states`` (1, tokens, width), as long as the prompt.
    """

    family = "qwen-image"
    pipeline_class = QwenImageInpaintPipeline
    network_part = "transformer"
    stacks_any_lengths = True

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.z_dim)

    def input_channels(self) -> dict[str, int]:
        return {"recompose": PATCH**2 * self.latent_channels}

    def encode_prompts(self, asked: TextRequest, size: tuple[int, int]) -> Prompts:
        guided = asked.guides
        return self._encoded_text(asked.prompt), self._encoded_text(asked.negative_prompt) if guided else None

    def _encoded_text(self, prompt: str) -> Conditioning:
        text, _ = self.pipeline.encode_prompt(prompt, device=self.device, max_sequence_length=TEXT_TOKENS)
        return {"encoder_hidden_states": text}

    def prompt_tokens(self, prompt: str, syntax: PromptSyntax) -> list[PromptTokens]:
        limit = TEXT_TOKENS + self.pipeline.prompt_template_encode_start_idx
        template = self.pipeline.prompt_template_encode
        return [tokens_read(self.pipeline.tokenizer, prompt, limit, template.format)]

    def stack(self, rows: Sequence[Conditioning]) -> Conditioning:
        """Prompts of different lengths are padded at their ends, and the padding masked: mates change nothing."""
        if "encoder_hidden_states_mask" in rows[0]:  # closed
            return super().stack(rows)
        texts = [row["encoder_hidden_states"][0] for row in rows]
        stacked = {"encoder_hidden_states": pad_sequence(texts, batch_first=True)}  # (rows, tokens, width)
        if len({len(text) for text in texts}) > 1:
            known = [torch.ones(len(text), dtype=torch.bool, device=self.device) for text in texts]
            stacked["encoder_hidden_states_mask"] = pad_sequence(known, batch_first=True)  # (rows, tokens)
        return stacked

    def closed(self, row: Conditioning) -> Conditioning:
        """Padded to ``COMPILED_TOKENS``, and the padding masked."""
        text = row["encoder_hidden_states"]
        missing = COMPILED_TOKENS - text.shape[1]
        if missing < 0:
            return row
        known = torch.arange(COMPILED_TOKENS, device=self.device) < text.shape[1]
        return {"encoder_hidden_states": F.pad(text, (0, 0, 0, missing)), "encoder_hidden_states_mask": known[None]}

    def forward(self, inputs: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        rows, _, height, width = inputs.shape
        output = self.network(
            pack(inputs),
            timestep=timesteps.to(self.dtype) / 1000,
            img_shapes=[[(1, height // PATCH, width // PATCH)]] * rows,
            **conditioning,
            return_dict=False,
        )[0]
        return unpack(output, (height, width))

    def guide(self, unconditional: torch.Tensor, conditional: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """Classifier-free guidance, each patch brought back to the length that it has without."""
        guided = pack(super().guide(unconditional, conditional, scale))
        lengths = pack(conditional).norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True)
        return unpack(guided * lengths, (conditional.shape[2], conditional.shape[3]))

    def schedule(self, steps: int, grid: tuple[int, int]) -> dict[str, Any]:
        mu = resolution_shift(self.pipeline.scheduler, grid)
        return {"num_inference_steps": steps, "sigmas": linear_sigmas(steps), "mu": mu}

    def moments(self, image: torch.Tensor) -> torch.Tensor:
        return super().moments(image[:, :, None])  # (1, 2 C, 1, h, w)

    def scaled(self, drawn: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._statistics
        return (drawn[:, :, 0] - mean) / deviation

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        mean, deviation = self._statistics
        film = (latents.to(self.vae.dtype) * deviation + mean)[:, :, None]  # (rows, C, 1, h, w)
        return torch.as_tensor(self.vae.decode(film, return_dict=False)[0])[:, :, 0]

    @property
    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the VAE's latents, (C, 1, 1)."""
        mean, deviation = self._known_statistics.to(self.vae.dtype)
        return mean, deviation

    @cached_property
    def _known_statistics(self) -> torch.Tensor:
        known = torch.tensor([self.vae.config.latents_mean, self.vae.config.latents_std])
        return to_device(known[..., None, None], self.device)
