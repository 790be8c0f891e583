"""Pipelines in the shape of published models, with random weights made on the device: no files, no network, seconds.

The sizes are those of ``stable-diffusion-v1-5/stable-diffusion-inpainting`` and
``diffusers/stable-diffusion-xl-1.0-inpainting-0.1``. The tokenizer knows single letters only: what a prompt says does
not matter to random weights, and every prompt is 77 tokens to the network anyway.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    SchedulerMixin,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

Config = Mapping[str, Any]
TOKENS = 77


@dataclass(frozen=True)
class Shape:
    """A model's sizes. ``size_px`` is the side it was trained for; ``text_2`` makes it one of SDXL."""

    name: str
    size_px: int
    unet: Config
    vae: Config
    text: Config
    scheduler: str
    text_2: Config | None = None

    @property
    def family(self) -> str:
        return "sdxl" if self.text_2 else "sd"


VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
}
CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
}
CLIP_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}

SD15 = Shape(
    name="sd15",
    size_px=512,
    unet={
        "sample_size": 64,
        "in_channels": 9,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    vae={**VAE, "sample_size": 512, "scaling_factor": 0.18215},
    text=CLIP_L,
    scheduler="ddim",
)
SDXL = Shape(
    name="sdxl",
    size_px=1024,
    unet={
        "sample_size": 128,
        "in_channels": 9,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
        "up_block_types": (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 1280 + 6 * 256,
    },
    vae={**VAE, "sample_size": 1024, "scaling_factor": 0.13025},
    text=CLIP_L,
    text_2=CLIP_G,
    scheduler="euler",
)
SHAPES = {shape.name: shape for shape in (SD15, SDXL)}

NOISE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
SCHEDULERS: dict[str, tuple[type[SchedulerMixin], Config]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "euler": (EulerDiscreteScheduler, {}),
}


def build(shape: Shape, device: torch.device, dtype: torch.dtype, seed: int = 0) -> DiffusionPipeline:
    """The pipeline, its weights drawn on the device as torch and transformers initialise new networks."""
    torch.manual_seed(seed)
    with torch.device(device):
        networks = {
            "unet": UNet2DConditionModel(**shape.unet),
            "vae": AutoencoderKL(**shape.vae),
            "text_encoder": CLIPTextModel(_text_config(shape.text)),
        }
        if shape.text_2:
            networks["text_encoder_2"] = CLIPTextModelWithProjection(_text_config(shape.text_2))
    parts: dict[str, Any] = {name: network.to(dtype).eval() for name, network in networks.items()}
    scheduler_class, settings = SCHEDULERS[shape.scheduler]
    parts |= {"scheduler": scheduler_class(**NOISE, **settings), "tokenizer": _tokenizer()}
    if shape.text_2:
        return StableDiffusionXLInpaintPipeline(**parts, tokenizer_2=_tokenizer())
    return StableDiffusionInpaintPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def _letters() -> list[str]:
    letters = [chr(code) for code in range(33, 127)]
    return [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]


def _tokenizer() -> CLIPTokenizer:
    vocabulary = {token: number for number, token in enumerate(_letters())}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)


def _text_config(sizes: Config) -> CLIPTextConfig:
    end = len(_letters()) - 1
    settings = {"vocab_size": 49408, "max_position_embeddings": TOKENS, **sizes}
    return CLIPTextConfig(**settings, bos_token_id=end - 1, eos_token_id=end, pad_token_id=end)
