"""Weights in eight bits with scales beside them, as node editors save them, made whole again.

A layer's ``weight`` is kept as ``weight / scale`` in 8-bit floats. The scale is called ``scale_weight`` (files with a
tensor ``scaled_fp8``), ``weight_scale`` or, of blocks of 128 x 128, ``weight_scale_inv``; it is multiplied, whatever
its name. What is there for computing in eight bits (``scale_input``, ``input_scale``) is not needed.

Source: ComfyUI, QUANTIZATION.md and comfy/ops.py; DeepSeek-V3, inference/kernel.py.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from jobs.errors import BadModel

SCALES = ("scale_weight", "weight_scale", "weight_scale_inv")
UNNEEDED = ("scaled_fp8", "scale_input", "input_scale")
MARK = "comfy_quant"
"""A layer's format, as JSON in bytes; in a header's ``_quantization_metadata`` those of all layers."""
FORMATS = ("float8_e4m3fn", "float8_e5m2")
KNOWN = ("format", "full_precision_matrix_mult")
SCALE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INV_BLOCK = 128


def without_scales(
    file: Path, weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """The same weights with their scales multiplied in, in ``dtype``, and without the scales.

    Raises:
        BadModel: naming a tensor of eight or fewer bits that is kept in a way that is not known here.
    """
    _check_formats(file, weights, metadata)
    made = dict(weights)
    for name, scale in weights.items():
        layer, _, last = name.rpartition(".")
        target = f"{layer}.weight"
        if last in SCALES and target in weights:
            made[target] = _scaled(file, name, made[target], scale, dtype)
            del made[name]
        elif last in (*UNNEEDED, MARK):
            del made[name]
    for name, tensor in made.items():
        if name.endswith(".weight") and not tensor.is_floating_point():
            raise BadModel(
                f"{file} keeps {name} as {tensor.dtype}, in a way that is not known here. Name a file in 16 or 32 "
                "bits, or in 8-bit floats with a scale for each layer."
            )
    return made


def _check_formats(file: Path, weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    try:
        layers: dict[str, Any] = dict(json.loads(metadata.get("_quantization_metadata", "{}")).get("layers", {}))
        for name, tensor in weights.items():
            if name.rpartition(".")[2] == MARK:
                layers[name] = json.loads(bytes(tensor.flatten().tolist()))
        odd = {
            name: kept for name, kept in layers.items() if kept["format"] not in FORMATS or not set(kept) <= {*KNOWN}
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadModel(f"{file} says in a way that cannot be read how its weights are kept ({error!r}).") from error
    for name, kept in odd.items():
        raise BadModel(f"{file} keeps {name} as {kept}; of such formats only {' and '.join(FORMATS)} are known here.")


def _scaled(file: Path, name: str, weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if scale.dtype not in SCALE_DTYPES or not (weight.is_floating_point() or weight.dtype == torch.int8):
        raise BadModel(
            f"{file}: {name} is a scale of {scale.dtype} for weights of {weight.dtype}; that is not known here."
        )
    if not scale.isfinite().all():
        raise BadModel(f"{file}: {name} has a scale that is not finite.")
    block = INV_BLOCK if name.endswith("_inv") else None
    factors = factors_of(scale.float(), weight.shape, block)
    if factors is None:
        raise BadModel(f"{file}: {name} has the shape {[*scale.shape]}, which fits no weight of {[*weight.shape]}.")
    return (weight.float() * factors).to(dtype)


def factors_of(scale: torch.Tensor, shape: torch.Size, block: int | None = None) -> torch.Tensor | None:
    """A scale spread to be multiplied with a weight; None where the two do not fit.

    Args:
        scale: one number; one for each output, (outputs,) or (outputs, 1, ...); or one for each block, (a, b).
        shape: of the weight, (outputs, inputs, ...).
        block: side of a block in weights; without it blocks are of one size, which divides the weight.
    """
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.dim() == 1 and len(scale) == shape[0]:
        return scale.view(-1, *[1] * (len(shape) - 1))
    if scale.dim() != len(shape):
        return None
    spread = scale
    for dim, (count, size) in enumerate(zip(scale.shape, shape, strict=True)):
        side = block or size // max(count, 1)
        if side == 0 or count != (-(-size // side) if block else size / side):
            return None
        spread = spread.repeat_interleave(side, dim).narrow(dim, 0, size)
    return spread
