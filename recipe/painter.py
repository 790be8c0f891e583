"""The two networks that learn together: the U-Net and, for its prompts, the text encoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from recipe.example import Example
from recipe.latent_space import LatentSpace
from recipe.parts import make_text_encoder, make_unet


@dataclass(frozen=True)
class Painter:
    """Both networks, and the tokenizer between words and them."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer

    @classmethod
    def fresh(cls, space: LatentSpace, tokenizer: CLIPTokenizer, seed: int) -> Painter:
        torch.manual_seed(seed)
        unet = make_unet(space.channels)
        return cls(unet.to(memory_format=torch.channels_last), make_text_encoder(tokenizer), tokenizer)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What learns, by the names of a checkpoint."""
        return {"unet": self.unet, "text_encoder": self.text_encoder}

    def parameters(self) -> list[nn.Parameter]:
        return [*self.unet.parameters(), *self.text_encoder.parameters()]

    def parameter_groups(self, text_factor: float) -> list[dict[str, object]]:
        """For an optimizer: the U-Net's own weights, and what reads the prompt, which learns `text_factor` as fast.

        Few examples name a hole's colour, the surroundings by all of them.
        """
        reads = [p for name, p in self.unet.named_parameters() if ".attn2." in name]
        others = [p for name, p in self.unet.named_parameters() if ".attn2." not in name]
        text = [*reads, *self.text_encoder.parameters()]
        return [{"params": others}, {"params": text, "factor": text_factor}]

    def encode_text(self, texts: list[str]) -> Tensor:
        """(B, L, 128). Each different text is encoded once: half of a batch is the empty one."""
        different = list(dict.fromkeys(texts))
        tokens = self.tokenizer(different, padding="max_length", truncation=True, return_tensors="pt")
        states: Tensor = self.text_encoder(tokens.input_ids).last_hidden_state
        return states[[different.index(text) for text in texts]]

    def predict(self, example: Example, texts: list[str]) -> Tensor:
        """The U-Net's output for a batch, (B, C, h, w)."""
        sample = example.sample.to(memory_format=torch.channels_last)
        output: Tensor = self.unet(sample, example.timestep, self.encode_text(texts)).sample
        return output
