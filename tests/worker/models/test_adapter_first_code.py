"""Adapters whose layers are called as in the model's first code, and numbers that are refused by the layer's name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_sd3_transformer_checkpoint_to_diffusers,
)
from safetensors.torch import save_file

from jobs.errors import BadLora
from tests.worker.ldm import unet_tensors
from tests.worker.lora_deltas import AB, ALPHAS, DOWN_UP, assert_adds, delta, loaded, matrices, pipeline_of, weights_of
from tests.worker.loras import describe
from tests.worker.published import narrow_converter, network_tensors
from tests.worker.published_sizes import sd3


def sd3_deltas(_: Any, checkpoint: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    converted: dict[str, torch.Tensor] = convert_sd3_transformer_checkpoint_to_diffusers(checkpoint)
    return converted


def flux_deltas(_: Any, checkpoint: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return narrow_converter(32)(checkpoint)


def unet_deltas(pipeline: Any, checkpoint: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    named = {f"model.diffusion_model.{name}": tensor for name, tensor in checkpoint.items()}
    converted: dict[str, torch.Tensor] = convert_ldm_unet_checkpoint(named, pipeline.unet.config)
    return converted


def first_code(pipeline: Any) -> dict[str, torch.Tensor]:
    if not hasattr(pipeline, "unet"):
        return network_tensors(pipeline.transformer)
    return {name.removeprefix("model.diffusion_model."): tensor for name, tensor in unet_tensors(pipeline.unet)}


def sd35_medium() -> Any:
    return sd3(qk_norm="rms_norm", dual_attention_layers=(0,))


FIRST_CODE: dict[str, tuple[Callable[[], Any], Callable[[Any, dict[str, torch.Tensor]], dict[str, torch.Tensor]]]] = {
    "sd3": (lambda: pipeline_of("sd3"), sd3_deltas),
    "sd3.5 medium": (sd35_medium, sd3_deltas),
    "flux": (lambda: pipeline_of("flux"), flux_deltas),
    "sdxl": (lambda: pipeline_of("sdxl"), unet_deltas),
    "sd": (lambda: pipeline_of("sd"), unet_deltas),
}
"""A pipeline, and how diffusers itself reads a checkpoint: here one that holds what is to be added, and zeros."""

FIRST_CODE_NAMINGS: dict[str, tuple[Callable[[str], str], tuple[str, str]]] = {
    "kohya": (lambda layer: f"lora_unet_{layer.replace('.', '_')}", DOWN_UP),
    "node editors": (lambda layer: f"diffusion_model.{layer}", AB),
    "PEFT": (lambda layer: f"base_model.model.{layer}", AB),
}


@pytest.mark.parametrize("naming", FIRST_CODE_NAMINGS)
@pytest.mark.parametrize("family", FIRST_CODE)
def test_layers_of_the_models_first_code_get_what_the_checkpoint_with_it_would_hold(
    family: str, naming: str, tmp_path: Path
) -> None:
    (make, deltas_of), (name, (down_name, up_name)) = FIRST_CODE[family], FIRST_CODE_NAMINGS[naming]
    pipeline = make()
    checkpoint = {key: torch.zeros_like(tensor) for key, tensor in first_code(pipeline).items()}
    layers = {key: tensor for key, tensor in checkpoint.items() if key.endswith(".weight") and tensor.dim() in (2, 4)}
    tensors = {}
    for index, (key, (down, up)) in enumerate(matrices(layers).items()):
        layer, alpha = name(key.removesuffix(".weight")), ALPHAS[index % 4]
        tensors[layer + down_name], tensors[layer + up_name] = down, up
        if alpha is not None:
            tensors[layer + ".alpha"] = alpha.clone()
        checkpoint[key] = delta(down, up, 1 if alpha is None else alpha.item() / len(down))
    save_file(tensors, tmp_path / "made.safetensors")
    network = "unet" if hasattr(pipeline, "unet") else "transformer"
    converted = deltas_of(pipeline, checkpoint)
    assert_adds(
        pipeline,
        tmp_path / "made.safetensors",
        {
            place: converted[f"{place[1]}.weight"].view(weight.shape)
            for place, weight in weights_of(pipeline, network).items()
        },
    )


def test_files_of_xlabs_for_flux_are_added_as_they_are(tmp_path: Path) -> None:
    """They number the two streams, and leave out a layer that kohya has in one with queries, keys and values."""
    pipeline = pipeline_of("flux")
    layers = {
        "double_blocks.0.processor.qkv_lora1": [f"transformer_blocks.0.attn.to_{part}" for part in "qkv"],
        "double_blocks.0.processor.qkv_lora2": [f"transformer_blocks.0.attn.add_{part}_proj" for part in "qkv"],
        "double_blocks.0.processor.proj_lora1": ["transformer_blocks.0.attn.to_out.0"],
        "double_blocks.0.processor.proj_lora2": ["transformer_blocks.0.attn.to_add_out"],
        "single_blocks.0.processor.qkv_lora": [f"single_transformer_blocks.0.attn.to_{part}" for part in "qkv"],
    }
    made = matrices({name: torch.empty(32 * len(theirs), 32) for name, theirs in layers.items()})
    tensors, expected = {}, {}
    for name, (down, up) in made.items():
        tensors[f"{name}.down.weight"], tensors[f"{name}.up.weight"] = down, up
        for layer, rows in zip(layers[name], up.split(32), strict=True):
            expected["transformer", layer] = delta(down, rows, 1)
    save_file(tensors, tmp_path / "made.safetensors")
    assert describe(tmp_path / "made.safetensors").families == ("flux",)
    assert_adds(pipeline, tmp_path / "made.safetensors", expected)


# ---- what is refused by the layer's name


LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
BAD = "'odd' has a number that is not finite in its layer 'down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q'"


def odd(folder: Path, **tensors: torch.Tensor) -> Path:
    whole = {"lora_A.weight": torch.zeros(1, 32), "lora_B.weight": torch.zeros(32, 1)} | tensors
    file = folder / "odd.safetensors"
    save_file({f"unet.{LAYER}.{name}": tensor for name, tensor in whole.items()}, file)
    return file


@pytest.mark.parametrize("bad", [torch.tensor(torch.nan), torch.tensor(torch.inf), torch.tensor([-torch.inf])])
def test_an_alpha_that_is_not_finite_is_refused_by_the_layers_name(bad: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(BadLora, match=BAD):
        loaded(pipeline_of("sd"), odd(tmp_path, alpha=bad))


@pytest.mark.parametrize(
    "bad", [{"lora_A.weight": torch.full((1, 32), torch.nan)}, {"lora_B.weight": torch.full((32, 1), torch.inf)}]
)
def test_a_matrix_that_is_not_finite_is_refused_by_the_layers_name(bad: Any, tmp_path: Path) -> None:
    with pytest.raises(BadLora, match=BAD):
        loaded(pipeline_of("sd"), odd(tmp_path, **bad))
