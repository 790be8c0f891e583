"""A tiny Stable Diffusion (XL) pipeline as one file, in the names of the published ones: CompVis', and OpenCLIP's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_MIDDLE = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


OPEN_CLIP = {
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "fc1": "c_fc",
    "fc2": "c_proj",
    "self_attn": "attn",
    "final_layer_norm": "ln_final",
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "text_projection.weight": "text_projection",
}


def renamed(name: str, names: dict[str, str]) -> str:
    """``name`` with whole dotted parts replaced."""
    dotted = f".{name}."
    for old, new in names.items():
        dotted = dotted.replace(f".{old}.", f".{new}.")
    return dotted[1:-1]


def unet_names(unet: Any) -> dict[str, str]:
    """Prefixes of the U-Net's blocks; a level has one layer more than ``layers_per_block``."""
    level, names = unet.config.layers_per_block + 1, {}
    for i in range(len(unet.down_blocks)):
        for j in range(level - 1):
            names[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{1 + i * level + j}.0"
            names[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{1 + i * level + j}.1"
        names[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{(i + 1) * level}.0.op"
    for i, block in enumerate(unet.up_blocks):
        for j in range(level):
            names[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{i * level + j}.0"
            names[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{i * level + j}.1"
        behind = 2 if hasattr(block, "attentions") else 1
        names[f"up_blocks.{i}.upsamplers.0.conv"] = f"output_blocks.{(i + 1) * level - 1}.{behind}.conv"
    return UNET_ENDS | names


def unet_tensors(unet: Any) -> Iterator[tuple[str, torch.Tensor]]:
    names = unet_names(unet)
    for name, tensor in unet.state_dict().items():
        inner = renamed(name, UNET_RESNET) if ".resnets." in name else name
        yield "model.diffusion_model." + renamed(inner, names), tensor


def vae_tensors(vae: Any) -> Iterator[tuple[str, torch.Tensor]]:
    levels = len(vae.config.up_block_types)
    names = dict(VAE_MIDDLE)
    for i in range(levels):
        for j in range(vae.config.layers_per_block + 1):
            names[f"down_blocks.{i}.resnets.{j}"] = f"down.{i}.block.{j}"
            names[f"up_blocks.{i}.resnets.{j}"] = f"up.{levels - 1 - i}.block.{j}"
        names[f"down_blocks.{i}.downsamplers.0.conv"] = f"down.{i}.downsample.conv"
        names[f"up_blocks.{i}.upsamplers.0.conv"] = f"up.{levels - 1 - i}.upsample.conv"
    for name, tensor in vae.state_dict().items():
        convolution = ".attentions." in name and tensor.dim() == 2  # their attention is made of 1 x 1 convolutions
        yield "first_stage_model." + renamed(name, names), tensor[..., None, None] if convolution else tensor


def text_tensors(text_encoder: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in text_encoder.state_dict().items():
        yield f"{prefix}transformer.text_model." + name.removeprefix("text_model."), tensor


def open_clip_tensors(text_encoder: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Theirs has queries, keys and values in one matrix, and the projection the other way round."""
    state = {name.removeprefix("text_model."): tensor for name, tensor in text_encoder.state_dict().items()}
    for name, tensor in state.items():
        if ".q_proj." in name:
            parts = [state[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            yield prefix + renamed(name, OPEN_CLIP).replace("q_proj.", "in_proj_"), torch.cat(parts)
        elif ".k_proj." not in name and ".v_proj." not in name:
            yield prefix + renamed(name, OPEN_CLIP), tensor.T if name == "text_projection.weight" else tensor


def all_tensors(pipeline: Any) -> dict[str, torch.Tensor]:
    tensors = {**dict(unet_tensors(pipeline.unet)), **dict(vae_tensors(pipeline.vae))}
    if hasattr(pipeline, "text_encoder_2"):
        tensors |= text_tensors(pipeline.text_encoder, "conditioner.embedders.0.")
        tensors |= open_clip_tensors(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
    else:
        tensors |= text_tensors(pipeline.text_encoder, "cond_stage_model.")
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def save_single_file(pipeline: Any, file: Path) -> None:
    save_file(all_tensors(pipeline), file)
