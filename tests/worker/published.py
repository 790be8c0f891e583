"""Tiny SD 3 and FLUX pipelines as one file, in the names of the published ones: Stability's and Black Forest Labs'.

The way back of ``convert_sd3_transformer_checkpoint_to_diffusers`` and of its like for FLUX.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from diffusers.loaders import single_file_utils
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import save_file
from transformers import T5EncoderModel

from tests.worker.ldm import renamed, vae_tensors

SD3_NAMES = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "transformer_blocks": "joint_blocks",
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "attn.to_q": "x_block.attn.qkv",
    "attn.add_q_proj": "context_block.attn.qkv",
    "attn2.to_q": "x_block.attn2.qkv",
    "attn.norm_q": "x_block.attn.ln_q",
    "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q",
    "attn.norm_added_k": "context_block.attn.ln_k",
    "attn2.norm_q": "x_block.attn2.ln_q",
    "attn2.norm_k": "x_block.attn2.ln_k",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "attn2.to_out.0": "x_block.attn2.proj",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
FLUX_NAMES = {
    "time_text_embed.timestep_embedder": "time_in",
    "time_text_embed.text_embedder": "vector_in",
    "time_text_embed.guidance_embedder": "guidance_in",
    "linear_1": "in_layer",
    "linear_2": "out_layer",
    "context_embedder": "txt_in",
    "x_embedder": "img_in",
    "transformer_blocks": "double_blocks",
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "attn.to_q": "img_attn.qkv",
    "attn.add_q_proj": "txt_attn.qkv",
    "attn.norm_q.weight": "img_attn.norm.query_norm.scale",
    "attn.norm_k.weight": "img_attn.norm.key_norm.scale",
    "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale",
    "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
FLUX_SINGLE_NAMES = {
    "single_transformer_blocks": "single_blocks",
    "norm.linear": "modulation.lin",
    "attn.to_q": "linear1",
    "attn.norm_q.weight": "norm.query_norm.scale",
    "attn.norm_k.weight": "norm.key_norm.scale",
    "proj_out": "linear2",
}
ATTENTIONS = (
    ("attn.to_q", "attn.to_k", "attn.to_v"),
    ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
)
"""Layers that are one layer there, which has the name of the first."""
FLUX_SINGLE = (("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),)


def shift_first(tensor: torch.Tensor) -> torch.Tensor:
    """Of a layer that computes scale and shift: theirs has the shift before the scale."""
    return torch.cat(tensor.chunk(2)[::-1])


def fused(name: str, state: Mapping[str, torch.Tensor], layers: tuple[tuple[str, ...], ...]) -> torch.Tensor | None:
    """The tensor ``name`` and those that are behind it in the same layer; None if it is itself behind another one."""
    for first, *others in layers:
        if f"{first}." in name:
            return torch.cat([state[name], *(state[name.replace(first, other)] for other in others)])
        if any(f"{other}." in name for other in others):
            return None
    return state[name]


def sd3_tensors(transformer: Any) -> Iterator[tuple[str, torch.Tensor]]:
    state, last = transformer.state_dict(), transformer.config.num_layers - 1
    shifted = ("norm_out.", f"transformer_blocks.{last}.norm1_context.")
    for name in state:
        if (tensor := fused(name, state, ATTENTIONS)) is not None:
            yield renamed(name, SD3_NAMES), shift_first(tensor) if name.startswith(shifted) else tensor


def flux_tensors(transformer: Any) -> Iterator[tuple[str, torch.Tensor]]:
    state = transformer.state_dict()
    for name in state:
        single = name.startswith("single_")
        if (tensor := fused(name, state, FLUX_SINGLE if single else ATTENTIONS)) is not None:
            there = renamed(name, FLUX_SINGLE_NAMES if single else FLUX_NAMES)
            yield there, shift_first(tensor) if name.startswith("norm_out.") else tensor


def network_tensors(transformer: Any) -> dict[str, torch.Tensor]:
    """The network alone, as the first publication of FLUX has it."""
    tensors = sd3_tensors if isinstance(transformer, SD3Transformer2DModel) else flux_tensors
    return dict(tensors(transformer))


def text_tensors(text_encoder: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in text_encoder.state_dict().items():
        whole = name.startswith("text_") or isinstance(text_encoder, T5EncoderModel)
        yield f"text_encoders.{prefix}.transformer." + (name if whole else f"text_model.{name}"), tensor


def all_tensors(pipeline: Any) -> dict[str, torch.Tensor]:
    """Network, VAE and text encoders, as files for node editors have them."""
    tensors = {f"model.diffusion_model.{name}": made for name, made in network_tensors(pipeline.transformer).items()}
    tensors |= {name.replace("first_stage_model.", "vae."): tensor for name, tensor in vae_tensors(pipeline.vae)}
    called = ("clip_l", "clip_g", "t5xxl") if hasattr(pipeline, "text_encoder_3") else ("clip_l", "t5xxl")
    for number, prefix in enumerate(called, start=1):
        part = "text_encoder" if number == 1 else f"text_encoder_{number}"
        tensors |= text_tensors(getattr(pipeline, part), prefix)
    tensors.pop("text_encoders.clip_l.transformer.text_projection.weight", None)  # SD 3's has none
    return tensors


def save(tensors: Mapping[str, torch.Tensor], file: Path) -> Path:
    save_file({name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}, file)
    return file


def narrow_converter(width: int) -> Callable[..., dict[str, torch.Tensor]]:
    """diffusers' reader of FLUX's names, which has the width of the published networks, 3072, written into it."""
    code = convert_flux_transformer_checkpoint_to_diffusers.__code__
    assert 3072 in code.co_consts
    constants = tuple(width if constant == 3072 else constant for constant in code.co_consts)
    return FunctionType(code.replace(co_consts=constants), single_file_utils.__dict__)
