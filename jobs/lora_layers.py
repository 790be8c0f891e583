"""What a LoRA's tensors say by their names and shapes alone: which layers it changes, and for which family it was made.

An adapter changes a layer's weight W (outputs x inputs) by ``scale * B @ A``: A is (rank, inputs), B (outputs, rank)
(Hu et al. 2021, "LoRA"). Three ways of naming the tensors are about, and some older forms of them:

- diffusers: ``unet.<layer>.lora_A.weight``, ``transformer.<layer>...``, ``text_encoder.<layer>...``
- PEFT: ``base_model.model.<layer>.lora_A.weight``, or the layer alone
- kohya: ``lora_unet_<layer, with _ for .>.lora_down.weight``, ``lora_te1_...``, with an ``.alpha`` for each layer

Names are compared flat, with ``_`` for every ``.``, as kohya has them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jobs.errors import InvalidLora

NETWORK = "network"
"""The U-Net or transformer. Other components are called as in diffusers: text_encoder, text_encoder_2."""

PEFT_PREFIX = "base_model.model."
COMPONENTS = {
    "unet.": NETWORK,
    "transformer.": NETWORK,
    "diffusion_model.": NETWORK,
    PEFT_PREFIX: NETWORK,
    "lora_unet_": NETWORK,
    "lora_transformer_": NETWORK,
    "text_encoder.": "text_encoder",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "lora_te2_": "text_encoder_2",
    "text_encoder_3.": "text_encoder_3",
    "lora_te3_": "text_encoder_3",
}
TENSOR = re.compile(
    r"(?P<layer>.+?)[._](?:(?P<down>lora_A|lora_down|lora\.down|lora_linear_layer\.down)"
    r"|(?:lora_B|lora_up|lora\.up|lora_linear_layer\.up))\.weight"
)
U_NET = re.compile(r"(down_blocks|mid_block|up_blocks|input_blocks|middle_block|output_blocks)_")
TEXT_WIDTHS = {768: "sd", 1024: "sd", 2048: "sdxl"}
"""Width of the text that a published U-Net attends to -> family: SD 1.5, SD 2, SDXL."""
TRANSFORMERS = {
    "flux": re.compile(r"(single_transformer_blocks|double_blocks|single_blocks)_"),
    "sd3": re.compile(r"joint_blocks_|transformer_blocks_\d+_attn2_"),
    "qwen-image": re.compile(r"transformer_blocks_\d+_(img|txt)_m"),
}
FIRST_CODE = ("input_blocks", "middle_block", "output_blocks", "double_blocks", "single_blocks", "joint_blocks")
"""Blocks named as in the model's first code, not as in diffusers: which is which is known to diffusers' converters."""


class Layer(NamedTuple):
    """One changed layer."""

    component: str
    name: str
    inputs: int
    outputs: int
    rank: int


Width = tuple[int, int]
"""Inputs and outputs (features or channels) of a linear layer or a convolution."""


def flat_name(component: str, layer: str) -> str:
    """A layer's name, however it was written, as ``Layer.name`` has it."""
    name = layer.replace(".processor", "").replace(".", "_")
    if component == NETWORK:
        return re.sub("_to_out$", "_to_out_0", name)
    name = name.removeprefix("text_model_")
    return re.sub(r"_to_out$", "_out_proj", re.sub(r"_to_([qkv])$", r"_\1_proj", name))


def _place(tensor_layer: str) -> tuple[str, str]:
    """Component and flat name; a layer without a prefix is the network's."""
    for prefix, component in COMPONENTS.items():
        if tensor_layer.startswith(prefix):
            return component, flat_name(component, tensor_layer.removeprefix(prefix))
    return NETWORK, flat_name(NETWORK, tensor_layer)


def has_peft_names(tensors: Iterable[str]) -> bool:
    """Whether no tensor's name says what it belongs to, as where PEFT alone has saved a network's adapter."""
    others = (*(prefix for prefix in COMPONENTS if prefix != PEFT_PREFIX), *FIRST_CODE)
    return not any(name.startswith(others) for name in tensors)


def layers_of(shapes: Mapping[str, Sequence[int]]) -> list[Layer]:
    """The layers that tensors of these names and shapes change. Raises InvalidLora."""
    halves: dict[tuple[str, str], dict[bool, Sequence[int]]] = {}
    for tensor, shape in shapes.items():
        if tensor.endswith(".alpha"):
            continue
        found = TENSOR.fullmatch(tensor)
        if not found or len(shape) < 2:
            raise InvalidLora(f"it has a tensor {tensor[:200]!r}, which is no LoRA weight (no A or B, no down or up)")
        halves.setdefault(_place(found["layer"]), {})[bool(found["down"])] = shape
    if not halves:
        raise InvalidLora("it has no LoRA weights")
    return [_layer(*place, both) for place, both in halves.items()]


def _layer(component: str, name: str, halves: Mapping[bool, Sequence[int]]) -> Layer:
    if len(halves) < 2:
        raise InvalidLora(f"layer {name[:200]!r} has only one of A and B")
    down, up = halves[True], halves[False]
    if down[0] != up[1]:
        raise InvalidLora(f"layer {name[:200]!r} has an A of rank {down[0]} and a B of rank {up[1]}")
    return Layer(component, name, inputs=down[1], outputs=up[0], rank=down[0])


def families_of(layers: Iterable[Layer]) -> tuple[str, ...]:
    """The families whose networks have such layers; several where the names leave it open. Raises InvalidLora."""
    layers = list(layers)
    network = [layer for layer in layers if layer.component == NETWORK]
    if not network:
        return ("sd", "sdxl", "sd3", "flux")  # text encoders alone: all but qwen-image have CLIP's
    if any(U_NET.match(layer.name) for layer in network):
        return _u_nets(layers)
    for family, mark in TRANSFORMERS.items():
        if any(mark.match(layer.name) for layer in network):
            return (family,)
    if any(layer.name.startswith("transformer_blocks_") for layer in network):
        return tuple(TRANSFORMERS)
    raise InvalidLora(f"its layers (such as {network[0].name[:200]!r}) are those of no family that is served here")


def _u_nets(layers: Sequence[Layer]) -> tuple[str, ...]:
    for layer in layers:
        if layer.name.endswith(("attn2_to_k", "attn2_to_v")) and layer.inputs in TEXT_WIDTHS:
            return (TEXT_WIDTHS[layer.inputs],)
    if any(layer.component == "text_encoder_2" or layer.name.startswith("input_blocks_") for layer in layers):
        return ("sdxl",)
    return ("sd", "sdxl")


def misfit(layers: Iterable[Layer], widths: Mapping[str, Width]) -> str | None:
    """Why an adapter of ``layers`` does not fit a model with layers of ``widths`` (by ``width_key``); None if it does.

    None too where the layers are named as in the model's first code; then loading it tells.
    """
    layers = list(layers)
    if any(layer.name.startswith(FIRST_CODE) for layer in layers):
        return None
    for layer in layers:
        width = widths.get(width_key(layer.component, layer.name))
        if width is None:
            return f"the model has no layer {layer.name[:200]!r} in its {layer.component}"
        if tuple(width) != (layer.inputs, layer.outputs):
            found, real = f"{layer.inputs} -> {layer.outputs}", f"{width[0]} -> {width[1]}"
            return f"layer {layer.name[:200]!r} is {found} wide in the adapter and {real} in the model"
    return None


def width_key(component: str, name: str) -> str:
    """How a model's widths are listed: component and flat name."""
    return f"{component}.{name}"
