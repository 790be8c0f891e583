"""Tiny pipelines whose parts are of several widths, as the published ones' are."""

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel, StableDiffusionXLInpaintPipeline
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from tests.worker import tiny, tiny_transformers

WIDTH = 32
"""Of the tiny FLUX."""


def two_text_encoders() -> StableDiffusionXLInpaintPipeline:
    """As published ones, of two widths: diffusers tells the two in a single file by that."""
    narrow = tiny.pipeline("sdxl", "recompose", "ddim").components
    wide = CLIPTextConfig.from_dict(
        {**narrow["text_encoder_2"].config.to_dict(), "hidden_size": 48, "projection_dim": 48}
    )
    sizes = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    unet = tiny.unet(4, cross_attention_dim=32 + 48, projection_class_embeddings_input_dim=6 * 8 + 48, **sizes)
    parts = narrow | {"text_encoder_2": CLIPTextModelWithProjection(wide).eval(), "unet": unet}
    return StableDiffusionXLInpaintPipeline(**parts)


def sd3(**settings: Any) -> Any:
    """With text encoders as the published ones: CLIPs of two widths, the first without a projection."""
    made = tiny.pipeline("sd3", "recompose", "flow_euler")
    made.text_encoder.text_projection.weight.data = torch.eye(32)
    clip = {**made.text_encoder.config.to_dict(), "hidden_size": 48, "projection_dim": 48}
    width = {"joint_attention_dim": 80, "pooled_projection_dim": 80}
    config = {**made.transformer.config, **width, **settings}
    del config["_use_default_values"]  # diffusers would take their defaults for the settings
    torch.manual_seed(1)
    made.register_modules(
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig.from_dict(clip)).eval(),
        text_encoder_3=tiny_transformers.t5(80),
        transformer=SD3Transformer2DModel.from_config(config).eval(),
    )
    return made


def flux(in_channels: int, told_guidance: bool = True) -> Any:
    return tiny.flux(in_channels, tiny.SHIFTED_SCHEDULERS["flow_euler"](), told_guidance)


def folder_of(pipeline: Any, folder: Path) -> Path:
    pipeline.save_pretrained(folder)
    return folder


def without(weights: str, folder: Path) -> Path:
    """A copy of a diffusers folder without the weights of ``weights``, a pattern for the names of its parts."""
    copy = Path(shutil.copytree(folder, folder.with_name("configs")))
    for file in copy.glob(f"{weights}/*.safetensors"):
        file.unlink()
    return copy
