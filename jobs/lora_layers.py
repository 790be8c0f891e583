"""What a LoRA's tensors say by their names and shapes alone: which layers it changes, and for which family it was made.

An adapter changes a layer's weight W (outputs x inputs) by ``alpha / rank * B @ A``: A is (rank, inputs), B (outputs,
rank) (Hu et al. 2021, "LoRA"); without an alpha of its own, a layer's alpha is its rank. These namings are in use:

- diffusers: ``unet.<layer>.lora_A.weight``, ``transformer.<layer>...``, ``text_encoder.<layer>...``, and older forms
- PEFT: ``base_model.model.<layer>.lora_A.weight``, or the layer alone, also with the adapter's name behind ``lora_A``
- kohya and OneTrainer: ``lora_unet_<layer, with _ for .>.lora_down.weight``, ``lora_te1_...``, with an ``.alpha``
- node editors: ``diffusion_model.<layer>.lora_down.weight``; XLabs: ``<layer>.processor.qkv_lora1.down.weight``

Names are compared flat, with ``_`` for every ``.``, as kohya has them. Layers are called as in diffusers or as in the
model's first code (``jobs/lora_first_code.py``).
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jobs.errors import InvalidLora, LoraMismatch
from jobs.families import FAMILIES
from jobs.lora_first_code import names_in_diffusers, swaps_halves

NETWORK = "network"
"""The U-Net or transformer. Other components are called as in diffusers: text_encoder, text_encoder_2."""

COMPONENTS = {
    "unet.": NETWORK,
    "transformer.": NETWORK,
    "diffusion_model.": NETWORK,
    "base_model.model.": NETWORK,
    "lora_unet_": NETWORK,
    "lora_transformer_": NETWORK,
    "text_encoder.": "text_encoder",
    "text_encoders.clip_l.transformer.": "text_encoder",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "text_encoders.clip_g.transformer.": "text_encoder_2",
    "lora_te2_": "text_encoder_2",
    "text_encoder_3.": "text_encoder_3",
    "text_encoders.t5xxl.transformer.": "text_encoder_3",
    "lora_te3_": "text_encoder_3",
}
TENSOR = re.compile(
    r"(?P<layer>.+?)(?:[._](?:lora_|lora_linear_layer\.|lora(?P<stream>[12]?)\.)(?:(?P<down>A|down)|(?P<up>B|up))"
    r"(?:\.\w+)?\.weight|\.alpha)"
)
OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lokr_": "LoKr",
    "hada_": "LoHa",
    "oft_": "OFT",
    "lora_mid": "LoCon with a core tensor",
    ".diff": "differences of whole weights",
    ".bias": "an adapter with biases",
}
"""A part of a tensor's name -> what has such tensors."""
U_NET = re.compile(r"(down_blocks|mid_block|up_blocks|input_blocks|middle_block|output_blocks)_")
TEXT_WIDTHS = {width: family for family, facts in FAMILIES.items() for width in facts.text_widths}
TRANSFORMERS = {family: re.compile(facts.adapter_layers) for family, facts in FAMILIES.items() if facts.adapter_layers}


class Layer(NamedTuple):
    """One changed layer."""

    component: str
    name: str
    inputs: int
    outputs: int
    rank: int


Width = tuple[int, int]
"""Inputs and outputs (features or channels) of a linear layer or a convolution."""

Place = tuple[str, str]
"""Component and flat name of a layer."""


class Tensors(NamedTuple):
    """What a layer's tensors are called in the file."""

    down: str
    up: str
    alpha: str | None


class Target(NamedTuple):
    """A layer of a model that a layer of an adapter changes.

    ``start``, ``stop``: which of the adapter's outputs are its own. ``swapped``: the halves of these in turn.
    """

    layer: Layer
    start: int
    stop: int
    swapped: bool


def flat_name(component: str, layer: str) -> str:
    """A layer's name, however it was written, as ``Layer.name`` has it."""
    name = layer.replace(".processor", "").replace(".", "_")
    if component == NETWORK:
        return re.sub("_to_out$", "_to_out_0", name)
    name = name.removeprefix("text_model_")
    return re.sub(r"_to_out$", "_out_proj", re.sub(r"_to_([qkv])$", r"_\1_proj", name))


def _place(tensor_layer: str) -> Place:
    """Component and flat name; a layer without a prefix is the network's."""
    for prefix, component in COMPONENTS.items():
        if tensor_layer.startswith(prefix):
            return component, flat_name(component, tensor_layer.removeprefix(prefix))
    return NETWORK, flat_name(NETWORK, tensor_layer)


def tensors_of(names: Iterable[str]) -> dict[Place, Tensors]:
    """The tensors of each layer. Raises InvalidLora, also where a tensor belongs to no layer or a layer has two."""
    halves: dict[Place, dict[str, str]] = {}
    for name in names:
        found = TENSOR.fullmatch(name)
        if not found:
            raise InvalidLora(f"it has a tensor {name[:200]!r}, which is {_other_kind(name)}")
        part = "down" if found["down"] else "up" if found["up"] else "alpha"
        layer = halves.setdefault(_place(found["layer"] + (found["stream"] or "")), {})
        if part in layer:
            raise InvalidLora(f"it has the same layer twice: {layer[part][:200]!r} and {name[:200]!r}")
        layer[part] = name
    for (_, name), parts in halves.items():
        if not {"down", "up"} <= set(parts):
            has = "an alpha but neither A nor B" if set(parts) == {"alpha"} else "only one of A and B"
            raise InvalidLora(f"layer {name[:200]!r} has {has}")
    return {place: Tensors(parts["down"], parts["up"], parts.get("alpha")) for place, parts in halves.items()}


def _other_kind(name: str) -> str:
    kind = next((kind for mark, kind in OTHER_KINDS.items() if mark in name), None)
    return f"of {kind}, which is not supported" if kind else "no LoRA weight (no A or B, no down or up)"


def layers_of(shapes: Mapping[str, Sequence[int]]) -> list[Layer]:
    """The layers that tensors of these names and shapes change. Raises InvalidLora."""
    found = tensors_of(shapes)
    if not found:
        raise InvalidLora("it has no LoRA weights")
    return [_layer(place, tensors, shapes) for place, tensors in found.items()]


def _layer(place: Place, tensors: Tensors, shapes: Mapping[str, Sequence[int]]) -> Layer:
    name, down, up = place[1][:200], shapes[tensors.down], shapes[tensors.up]
    if min(len(down), len(up)) < 2:
        raise InvalidLora(f"layer {name!r} has an A of shape {[*down]} and a B of shape {[*up]}, which are no matrices")
    if down[0] != up[1]:
        raise InvalidLora(f"layer {name!r} has an A of rank {down[0]} and a B of rank {up[1]}")
    if down[0] < 1:
        raise InvalidLora(f"layer {name!r} is of rank 0")
    if tensors.alpha and math.prod(shapes[tensors.alpha]) != 1:
        raise InvalidLora(f"layer {name!r} has an alpha of shape {[*shapes[tensors.alpha]]}; it is a single number")
    return Layer(*place, inputs=down[1], outputs=up[0], rank=down[0])


def families_of(layers: Iterable[Layer]) -> tuple[str, ...]:
    """The families whose networks have such layers; several where the names leave it open. Raises InvalidLora."""
    layers = list(layers)
    network = [layer for layer in layers if layer.component == NETWORK]
    if not network:
        return tuple(family for family, facts in FAMILIES.items() if facts.has_clip)  # text encoders alone
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
    """Why an adapter of ``layers`` does not fit a model of ``widths`` (by ``width_key``); None if it does."""
    try:
        targets_of(layers, widths)
    except LoraMismatch as reason:
        return str(reason)
    return None


def targets_of(layers: Iterable[Layer], widths: Mapping[str, Width]) -> dict[str, Target]:
    """Which layers of a model of ``widths`` an adapter changes, by ``width_key``. Raises LoraMismatch."""
    depth = _depth(widths)
    targets: dict[str, Target] = {}
    for layer in layers:
        keys = _keys(layer, widths, depth)
        _check_width(layer, [widths[key] for key in keys])
        swapped, start = swaps_halves(layer.name, layer.inputs, layer.outputs), 0
        for key in keys:
            if key in targets:
                twice = f"{targets[key].layer.name[:200]!r} and {layer.name[:200]!r}"
                raise LoraMismatch(f"its layers {twice} are one and the same in the model")
            stop = start + widths[key][1]
            targets[key] = Target(layer, start, stop, swapped)
            start = stop
    return targets


def _depth(widths: Iterable[str]) -> int:
    """``layers_per_block`` of a U-Net whose layers these are."""
    return sum(bool(re.fullmatch(rf"{NETWORK}\.down_blocks_0_resnets_\d+_conv1", key)) for key in widths)


def _keys(layer: Layer, widths: Mapping[str, Width], depth: int) -> list[str]:
    """The model's layers that a layer of the file is, by its own name or the first code's. Raises LoraMismatch."""
    own = width_key(layer.component, layer.name)
    if own in widths:
        return [own]
    names = names_in_diffusers(layer.name, depth) if layer.component == NETWORK else ()
    keys = [width_key(NETWORK, name) for name in names]
    if not keys or any(key not in widths for key in keys):
        raise LoraMismatch(f"the model has no layer {layer.name[:200]!r} in its {layer.component}")
    return keys


def _check_width(layer: Layer, widths: Sequence[Width]) -> None:
    inputs, outputs = {width[0] for width in widths}, sum(width[1] for width in widths)
    if inputs != {layer.inputs} or outputs != layer.outputs:
        found, real = f"{layer.inputs} -> {layer.outputs}", f"{min(inputs)} -> {outputs}"
        raise LoraMismatch(f"layer {layer.name[:200]!r} is {found} wide in the adapter and {real} in the model")


def width_key(component: str, name: str) -> str:
    """How a model's widths are listed: component and flat name."""
    return f"{component}.{name}"
