"""Tiny real diffusers components with random weights, built in memory: what the parity tests run on both sides.

``FAMILIES`` holds one ``Tiny`` for each family: a new one gets its parity and property tests from its line there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FluxFillPipeline,
    FluxInpaintPipeline,
    QwenImageInpaintPipeline,
    StableDiffusion3InpaintPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from jobs.schema import InpaintParameters
from tests.worker import tiny_transformers
from tests.worker.tiny_schedulers import DIFFUSION_SCHEDULERS
from worker.families.flow import unpack
from worker.families.flux import Flux
from worker.families.latent_diffusion import LatentDiffusion
from worker.families.qwen_image import QwenImage
from worker.families.sd import StableDiffusion
from worker.families.sd3 import StableDiffusion3
from worker.families.sdxl import StableDiffusionXL

SIZE = 64
"""Side of the pictures in px that the tests run."""


def both_prompts(wanted: InpaintParameters) -> dict[str, Any]:
    """Arguments of a pipeline that computes guidance from a negative prompt."""
    return {"negative_prompt": wanted.negative_prompt, "guidance_scale": wanted.guidance_scale}


@dataclass(frozen=True)
class Tiny:
    """A family in small, and how diffusers' own pipelines of it are asked."""

    family: type[LatentDiffusion]
    pipelines: Mapping[str, Callable[[Any], Any]]  # mode -> its pipeline, from a noise scheduler
    schedulers: Mapping[str, Callable[[], Any]]
    arguments: Callable[[InpaintParameters], dict[str, Any]] = both_prompts
    unpacked: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.contiguous  # to (1, C, h, w)


SHIFTS = {"use_dynamic_shifting": True, "shift": 3.0}
SHIFTED_SCHEDULERS: dict[str, Callable[[], Any]] = {
    "flow_euler": lambda: FlowMatchEulerDiscreteScheduler(**SHIFTS),
    "flow_euler_karras": lambda: FlowMatchEulerDiscreteScheduler(**SHIFTS, use_karras_sigmas=True),
}


def tokenizer() -> CLIPTokenizer:
    """A byte-level CLIP tokenizer without merges."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=16)


def text_encoder(kind: type[CLIPTextModel] | type[CLIPTextModelWithProjection] = CLIPTextModel) -> Any:
    torch.manual_seed(0)
    config = CLIPTextConfig(
        projection_dim=32,
        vocab_size=256,
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=16,
        bos_token_id=188,
        eos_token_id=189,
        pad_token_id=189,
    )
    return kind(config).eval()


def vae() -> AutoencoderKL:
    """Two levels of shrinking would be smaller; three keep the factor 8 of the real ones."""
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=[8, 8, 16, 16],
        norm_num_groups=4,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=4,
    ).eval()


def unet(in_channels: int, **settings: Any) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        **settings,
        block_out_channels=(16, 32),
        layers_per_block=1,
        sample_size=8,
        in_channels=in_channels,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=8,
    ).eval()


def sd(in_channels: int, scheduler: Any) -> StableDiffusionInpaintPipeline:
    return StableDiffusionInpaintPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        unet=unet(in_channels, cross_attention_dim=32),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl(in_channels: int, scheduler: Any) -> StableDiffusionXLInpaintPipeline:
    sizes = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    return StableDiffusionXLInpaintPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet(in_channels, cross_attention_dim=64, projection_class_embeddings_input_dim=6 * 8 + 32, **sizes),
        scheduler=scheduler,
    )


def optional_negative(wanted: InpaintParameters) -> dict[str, Any]:
    """As a caller of SDXL's pipeline does: no negative prompt is none, not an empty one."""
    return both_prompts(wanted) | {"negative_prompt": wanted.negative_prompt or None}


def sd3(in_channels: int, scheduler: Any) -> StableDiffusion3InpaintPipeline:
    return StableDiffusion3InpaintPipeline(
        vae=tiny_transformers.vae(),
        text_encoder=text_encoder(CLIPTextModelWithProjection),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection),
        text_encoder_3=tiny_transformers.t5(64),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        tokenizer_3=tiny_transformers.t5_tokenizer(),
        transformer=tiny_transformers.sd3_transformer(in_channels),
        scheduler=scheduler,
    )


def flux(in_channels: int, scheduler: Any, told_guidance: bool = True) -> FluxInpaintPipeline | FluxFillPipeline:
    """Dev (64 channels), schnell (64, not told the guidance scale) and Fill (384)."""
    kind = FluxFillPipeline if in_channels == 384 else FluxInpaintPipeline
    return kind(
        vae=tiny_transformers.vae(),
        text_encoder=text_encoder(),
        text_encoder_2=tiny_transformers.t5(32),
        tokenizer=tokenizer(),
        tokenizer_2=tiny_transformers.t5_tokenizer(),
        transformer=tiny_transformers.flux_transformer(in_channels, told_guidance),
        scheduler=scheduler,
    )


def scale_alone(wanted: InpaintParameters) -> dict[str, Any]:
    """Arguments of a pipeline that computes nothing from a negative prompt."""
    return {"guidance_scale": wanted.guidance_scale}


def from_tokens(latents: torch.Tensor) -> torch.Tensor:
    """What FLUX's pipelines call latents, (1, h / 2 * w / 2, 4 C), as (1, C, h, w)."""
    return unpack(latents, (SIZE // 8, SIZE // 8))


def qwen_image(in_channels: int, scheduler: Any) -> QwenImageInpaintPipeline:
    return QwenImageInpaintPipeline(
        vae=tiny_transformers.qwen_image_vae(),
        text_encoder=tiny_transformers.qwen_vl(),
        tokenizer=tiny_transformers.qwen_tokenizer(),
        transformer=tiny_transformers.qwen_image_transformer(in_channels),
        scheduler=scheduler,
    )


def true_guidance(wanted: InpaintParameters) -> dict[str, Any]:
    """Arguments of a pipeline that keeps the other name for a scale told to the network."""
    return {"negative_prompt": wanted.negative_prompt, "true_cfg_scale": wanted.guidance_scale}


FAMILIES = {
    "sd": Tiny(StableDiffusion, {"concat": partial(sd, 9), "recompose": partial(sd, 4)}, DIFFUSION_SCHEDULERS),
    "sdxl": Tiny(
        StableDiffusionXL,
        {"concat": partial(sdxl, 9), "recompose": partial(sdxl, 4)},
        DIFFUSION_SCHEDULERS,
        optional_negative,
    ),
    "sd3": Tiny(
        StableDiffusion3,
        {"concat": partial(sd3, 33), "recompose": partial(sd3, 16)},
        {
            "flow_euler": lambda: FlowMatchEulerDiscreteScheduler(shift=3.0),
            "flow_heun": lambda: FlowMatchHeunDiscreteScheduler(shift=3.0),
            "flow_euler_karras": SHIFTED_SCHEDULERS["flow_euler_karras"],
        },
    ),
    "flux": Tiny(
        Flux,
        {"concat": partial(flux, 384), "recompose": partial(flux, 64)},
        SHIFTED_SCHEDULERS,
        scale_alone,
        from_tokens,
    ),
    "qwen-image": Tiny(
        QwenImage, {"recompose": partial(qwen_image, 64)}, SHIFTED_SCHEDULERS, true_guidance, from_tokens
    ),
}


def pipeline(family: str, mode: str, scheduler: str) -> Any:
    """Diffusers' own pipeline of a family and mode."""
    tiny = FAMILIES[family]
    made = tiny.pipelines[mode](tiny.schedulers[scheduler]())
    made.set_progress_bar_config(disable=True)
    return made


@cache
def shared_pipeline(family: str, mode: str) -> Any:
    """One for all tests of this process, which change nothing of it but its scheduler."""
    return pipeline(family, mode, next(iter(FAMILIES[family].schedulers)))


@cache
def shared_model(family: str, mode: str, scheduler: str = "") -> LatentDiffusion:
    """One for all tests of this process, which change nothing of it."""
    return model(family, mode, scheduler)


def model(family: str, mode: str, scheduler: str = "") -> LatentDiffusion:
    """Our loaded model of the same parts; without a scheduler's name, with the family's first."""
    tiny = FAMILIES[family]
    return tiny.family("tiny", pipeline(family, mode, scheduler or next(iter(tiny.schedulers))))
