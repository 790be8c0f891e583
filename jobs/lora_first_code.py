"""How the layers of a network are called in its first code, and which of diffusers' layers each of them is.

Trainers that work on a model's first code (kohya for SDXL, SD3 and FLUX, XLabs and others) name adapters by it. Names
are flat, with ``_`` for every ``.``. One layer there can be several of diffusers': queries, keys and values come from
one matrix, whose outputs are theirs one after the other.

Source: diffusers' own readers of single files (``convert_*_checkpoint_to_diffusers``).
"""

import re

TO_QKV = ("attn_to_q", "attn_to_k", "attn_to_v")
ADD_QKV = ("attn_add_q_proj", "attn_add_k_proj", "attn_add_v_proj")
BLOCKS: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "double_blocks": (
        "transformer_blocks",
        {
            "img_attn_qkv": TO_QKV,
            "txt_attn_qkv": ADD_QKV,
            "img_attn_proj": ("attn_to_out_0",),
            "txt_attn_proj": ("attn_to_add_out",),
            "img_mlp_0": ("ff_net_0_proj",),
            "img_mlp_2": ("ff_net_2",),
            "txt_mlp_0": ("ff_context_net_0_proj",),
            "txt_mlp_2": ("ff_context_net_2",),
            "img_mod_lin": ("norm1_linear",),
            "txt_mod_lin": ("norm1_context_linear",),
            "qkv1": TO_QKV,  # XLabs numbers the two streams
            "qkv2": ADD_QKV,
            "proj1": ("attn_to_out_0",),
            "proj2": ("attn_to_add_out",),
        },
    ),
    "single_blocks": (
        "single_transformer_blocks",
        {
            "linear1": (*TO_QKV, "proj_mlp"),
            "linear2": ("proj_out",),
            "modulation_lin": ("norm_linear",),
            "qkv": TO_QKV,
            "proj": ("proj_out",),
        },
    ),
    "joint_blocks": (
        "transformer_blocks",
        {
            "x_block_attn_qkv": TO_QKV,
            "x_block_attn2_qkv": ("attn2_to_q", "attn2_to_k", "attn2_to_v"),
            "context_block_attn_qkv": ADD_QKV,
            "x_block_attn_proj": ("attn_to_out_0",),
            "x_block_attn2_proj": ("attn2_to_out_0",),
            "context_block_attn_proj": ("attn_to_add_out",),
            "x_block_mlp_fc1": ("ff_net_0_proj",),
            "x_block_mlp_fc2": ("ff_net_2",),
            "context_block_mlp_fc1": ("ff_context_net_0_proj",),
            "context_block_mlp_fc2": ("ff_context_net_2",),
            "x_block_adaLN_modulation_1": ("norm1_linear",),
            "context_block_adaLN_modulation_1": ("norm1_context_linear",),
        },
    ),
}
"""First code's blocks -> diffusers' blocks, and the layers of each."""
AROUND = {
    # FLUX
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in_in_layer": "time_text_embed_timestep_embedder_linear_1",
    "time_in_out_layer": "time_text_embed_timestep_embedder_linear_2",
    "vector_in_in_layer": "time_text_embed_text_embedder_linear_1",
    "vector_in_out_layer": "time_text_embed_text_embedder_linear_2",
    "guidance_in_in_layer": "time_text_embed_guidance_embedder_linear_1",
    "guidance_in_out_layer": "time_text_embed_guidance_embedder_linear_2",
    "final_layer_linear": "proj_out",
    "final_layer_adaLN_modulation_1": "norm_out_linear",
    # SD3
    "x_embedder_proj": "pos_embed_proj",
    "t_embedder_mlp_0": "time_text_embed_timestep_embedder_linear_1",
    "t_embedder_mlp_2": "time_text_embed_timestep_embedder_linear_2",
    "y_embedder_mlp_0": "time_text_embed_text_embedder_linear_1",
    "y_embedder_mlp_2": "time_text_embed_text_embedder_linear_2",
    # SDXL
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
}
"""Layers outside of the blocks."""
RESNET = {
    "in_layers_2": "conv1",
    "out_layers_3": "conv2",
    "emb_layers_1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
MIDDLE = ("resnets_0", "attentions_0", "resnets_1")


def names_in_diffusers(name: str, depth: int) -> tuple[str, ...]:
    """diffusers' layers that the first code's layer ``name`` is, in the order of its outputs; none where unknown.

    Args:
        name: flat.
        depth: ``layers_per_block`` of a U-Net, whose blocks the first code numbers on.
    """
    if name in AROUND:
        return (AROUND[name],)
    if found := re.fullmatch(r"([a-z]+_blocks)_(\d{1,4})_(.+)", name):
        kind, number, layer = found.groups()
        if kind in BLOCKS:
            blocks, layers = BLOCKS[kind]
            return tuple(f"{blocks}_{number}_{inner}" for inner in layers.get(layer, ()))
        return _u_net_block(kind, int(number), layer, depth)
    if found := re.fullmatch(r"middle_block_([012])_(.+)", name):
        return (f"mid_block_{MIDDLE[int(found[1])]}_{RESNET.get(found[2], found[2])}",)
    return ()


def _u_net_block(kind: str, number: int, layer: str, depth: int) -> tuple[str, ...]:
    """Each level has ``depth`` blocks of layers and one that shrinks on the way in, ``depth + 1`` on the way out.

    A block's parts are numbered: 0 a ResNet, 1 attention (or what enlarges), 2 what enlarges.
    """
    part, _, rest = layer.partition("_")
    if kind == "input_blocks":
        level, place = divmod(number - 1, depth + 1)
        if layer == "0_op":
            return (f"down_blocks_{level}_downsamplers_0_conv",)
        blocks = f"down_blocks_{level}"
    elif kind == "output_blocks":
        level, place = divmod(number, depth + 1)
        if rest == "conv":
            return (f"up_blocks_{level}_upsamplers_0_conv",)
        blocks = f"up_blocks_{level}"
    else:
        return ()
    if part == "0" and rest in RESNET:
        return (f"{blocks}_resnets_{place}_{RESNET[rest]}",)
    return (f"{blocks}_attentions_{place}_{rest}",) if part == "1" else ()


def swaps_halves(name: str, inputs: int, outputs: int) -> bool:
    """Whether diffusers has a layer's outputs the other way round: scale before shift where it computes these two."""
    return name.endswith("adaLN_modulation_1") and outputs == 2 * inputs
