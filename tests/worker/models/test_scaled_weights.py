"""Single files whose weights are kept in eight bits with scales beside them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from jobs.errors import BadModel
from tests.worker import tiny
from tests.worker.ldm import all_tensors as sd_tensors
from tests.worker.loads import assert_same, load
from tests.worker.published import all_tensors
from tests.worker.published_sizes import flux, folder_of, without
from worker.models.scaled_weights import factors_of

FP8 = torch.float8_e4m3fn
Tensors = dict[str, torch.Tensor]


def half_rows(weight: torch.Tensor) -> torch.Tensor:
    """One for each half of each row, where there is a half."""
    halves = 2 if weight.shape[1] % 2 == 0 else 1
    scales: torch.Tensor = weight.unflatten(1, (halves, -1)).abs().amax(2) / 448
    return scales


SCALES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "one for the tensor": lambda weight: weight.abs().max() / 448,
    "one in a list": lambda weight: weight.abs().max()[None] / 448,
    "one for each output": lambda weight: weight.abs().amax(1) / 448,
    "one for each output, as a column": lambda weight: weight.abs().amax(1, keepdim=True) / 448,
    "one for each half row": half_rows,
}


def matrix(name: str, tensor: torch.Tensor) -> bool:
    """Layers that tools keep in eight bits."""
    return name.endswith(".weight") and tensor.dim() == 2 and "embed" not in name and "shared" not in name


def kept(tensors: Tensors, scale_of: Callable[[torch.Tensor], torch.Tensor], name: str) -> tuple[Tensors, Tensors]:
    """The tensors in eight bits with their scales, and those that they amount to."""
    small, whole = {}, {}
    for key, tensor in tensors.items():
        small[key] = whole[key] = tensor.contiguous()
        if matrix(key, tensor):
            scale = scale_of(tensor).float()
            factors = factors_of(scale, tensor.shape)
            assert factors is not None
            small[key] = (tensor / factors).to(FP8)
            small[f"{key.removesuffix('.weight')}.{name}"] = scale.contiguous()
            whole[key] = small[key].float() * factors
    return small, whole


def assert_reads_the_same(pipeline: Any, small: Tensors, whole: Tensors, folder: Path, **header: str) -> None:
    family = "flux" if hasattr(pipeline, "transformer") else "sd"
    scheduler = "flow_euler" if family == "flux" else "ddim"
    configs = str(without("*", folder_of(pipeline, folder / "folder")))
    loaded = []
    for name, tensors in (("small", small), ("whole", whole)):
        save_file({key: tensor.clone() for key, tensor in tensors.items()}, folder / f"{name}.safetensors", header)
        loaded.append(load(folder / f"{name}.safetensors", family, config=configs, scheduler=scheduler))
    assert_same(*loaded)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("name", ["scale_weight", "weight_scale"])
def test_weights_in_eight_bits_are_multiplied_by_their_scales(scales: str, name: str, tmp_path: Path) -> None:
    """In every part, before one layer of the file becomes several of diffusers'."""
    pipeline = flux(64)
    tensors = all_tensors(pipeline)
    small, whole = kept(tensors, SCALES[scales], name)
    assert sum(key.endswith(name) for key in small) > 30
    worst = max(float((whole[key] - tensor).norm() / tensor.norm()) for key, tensor in tensors.items() if tensor.any())
    assert worst < 0.05  # what eight bits lose
    marks = {"model.diffusion_model.scaled_fp8", "text_encoders.t5xxl.transformer.scaled_fp8"}
    inputs = {key.replace(name, "scale_input"): torch.tensor(3.0) for key in small if key.endswith(name)}
    small |= inputs | {mark: torch.zeros(2, dtype=FP8) for mark in marks}
    assert_reads_the_same(pipeline, small, whole, tmp_path)


def test_a_file_of_stable_diffusion_with_scales_is_read_too(tmp_path: Path) -> None:
    pipeline = tiny.pipeline("sd", "concat", "ddim")
    small, whole = kept(sd_tensors(pipeline), SCALES["one for the tensor"], "scale_weight")
    assert_reads_the_same(pipeline, small, whole, tmp_path)


@pytest.mark.parametrize("where", ["tensor", "header"])
def test_the_format_of_each_layer_may_be_said(where: str, tmp_path: Path) -> None:
    pipeline = tiny.pipeline("sd", "concat", "ddim")
    small, whole = kept(sd_tensors(pipeline), SCALES["one for the tensor"], "weight_scale")
    layers = [key.removesuffix(".weight_scale") for key in small if key.endswith(".weight_scale")]
    said, header = {"format": "float8_e4m3fn", "full_precision_matrix_mult": True}, {}
    if where == "tensor":
        small |= {f"{layer}.comfy_quant": in_bytes(said) for layer in layers}
    else:
        header["_quantization_metadata"] = json.dumps({"layers": dict.fromkeys(layers, said)})
    assert_reads_the_same(pipeline, small, whole, tmp_path, **header)


def in_bytes(said: Any) -> torch.Tensor:
    return torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)


LAYER = "model.diffusion_model.input_blocks.3.1.transformer_blocks.0.attn1.to_q"
ROTATED = {"format": "float8_e4m3fn", "rotation": "hadamard"}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"weight_scale": torch.ones(7)}, r"to_q.weight_scale has the shape \[7\], which fits no weight of"),
        ({"weight_scale": torch.ones(3, 5)}, r"to_q.weight_scale has the shape \[3, 5\]"),
        ({"weight_scale": torch.tensor(torch.inf)}, "to_q.weight_scale has a scale that is not finite"),
        ({"weight_scale": torch.ones(4, dtype=torch.uint8)}, "to_q.weight_scale is a scale of torch.uint8"),
        ({"weight": torch.ones(4, 4, dtype=torch.uint8)}, "keeps .*to_q.weight as torch.uint8"),
        ({"weight": torch.ones(4, 4, dtype=torch.int8)}, "keeps .*to_q.weight as torch.int8"),
        ({"comfy_quant": in_bytes({"format": "nvfp4"})}, "to_q.comfy_quant as .*nvfp4.*only float8_e4m3fn and"),
        ({"comfy_quant": in_bytes(ROTATED)}, "to_q.comfy_quant as .*hadamard"),
        ({"comfy_quant": in_bytes([])}, "in a way that cannot be read"),
        ({"comfy_quant": torch.full((2,), 255, dtype=torch.uint8)}, "in a way that cannot be read"),
        ({"weight_scale_2": torch.ones(1)}, "nothing reads: .*to_q.weight_scale_2"),
        ({"weight.absmax": torch.ones(1)}, "nothing reads: .*to_q.weight.absmax"),
    ],
)
def test_what_is_kept_in_a_way_that_is_not_known_is_refused_by_name(
    changed: Tensors, sentence: str, tmp_path: Path
) -> None:
    pipeline = tiny.pipeline("sd", "concat", "ddim")
    tensors = sd_tensors(pipeline)
    assert f"{LAYER}.weight" in tensors
    tensors |= {f"{LAYER}.{name}": tensor for name, tensor in changed.items()}
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(BadModel, match=f"odd.safetensors.*{sentence}"):
        load(tmp_path / "odd.safetensors", config=str(folder_of(pipeline, tmp_path / "folder")))


def test_a_scale_that_is_not_layed_out_in_equal_blocks_fits_nothing() -> None:
    assert factors_of(torch.ones(5, 1), torch.Size([576, 64])) is None
    assert factors_of(torch.ones(0, 1), torch.Size([576, 64])) is None
    assert factors_of(torch.ones(2, 2, 1), torch.Size([4, 4])) is None


def test_the_last_block_of_128_may_be_smaller() -> None:
    scale = torch.arange(10.0).view(5, 2)
    factors = factors_of(scale, torch.Size([576, 200]), block=128)
    assert factors is not None and factors.shape == (576, 200)
    assert factors[127, 127] == 0 and factors[128, 127] == 2 and factors[575, 128] == 9
    assert factors_of(scale, torch.Size([700, 200]), block=128) is None
