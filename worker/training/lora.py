"""LoRA (Hu et al. 2021): a frozen layer W learns an update B A of low rank. Built by peft, saved in diffusers' form.

    y = W x + B A x,   A (r, k) Gaussian, B (d, r) zero

so a fresh adapter changes nothing, and a layer of d x k weights trains r (d + k) instead. The paper's factor alpha / r
is kept at 1: it only rescales the learning rate, and a caller of the service chooses a scale of their own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers.training_utils import cast_training_params
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import nn

Layers = Literal["attention", "all"]
ATTENTION = re.compile(r"attn\d?\.(to|add)_(q|k|v|out|q_proj|k_proj|v_proj|add_out)(\.0)?$")
BLOCKS = re.compile(r"(^|\.)(down_blocks|mid_block|up_blocks|transformer_blocks|single_transformer_blocks)\.")


def lora_layers(network: nn.Module, layers: Layers) -> list[str]:
    """Names of the layers that get an update: the projections of attention, as the paper has it, or those and every
    other linear layer and convolution of the blocks.

    Raises ValueError if the network has none.
    """
    candidates = [name for name, part in network.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    wanted = ATTENTION if layers == "attention" else BLOCKS
    if not (found := [name for name in candidates if wanted.search(name)]):
        raise ValueError(f"the network has no layers of the kind {layers!r}")
    return found


def add_lora(network: Any, rank: int, seed: int, layers: Layers = "attention") -> list[nn.Parameter]:
    """Freezes a network of diffusers and puts a fresh adapter into it; returns A and B of each layer, in float32.

    Args:
        network: a U-Net or transformer of diffusers.
        rank: r.
        seed: of A.
        layers: which ones, see `lora_layers`.
    """
    network.requires_grad_(False)
    config = LoraConfig(
        r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=lora_layers(network, layers)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.add_adapter(config)
    cast_training_params(network)  # to float32: a step is smaller than what bfloat16 can tell apart
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def lora_modules(network: nn.Module) -> dict[str, LoraLayer]:
    """The layers that have an adapter, by name."""
    return {name: part for name, part in network.named_modules() if isinstance(part, LoraLayer)}


def save_lora(pipeline: Any, network_part: str, path: Path) -> None:
    """Writes the adapter as `.safetensors` in diffusers' naming: `pipeline.load_lora_weights` reads it anywhere.

    The file appears under its name when it is whole.
    """
    weights = get_peft_model_state_dict(getattr(pipeline, network_part))
    part = path.with_suffix(".part.safetensors")
    pipeline.save_lora_weights(part.parent, weight_name=part.name, **{f"{network_part}_lora_layers": weights})
    part.replace(path)
