"""What an adapter adds to each layer, in every naming and family: alpha / rank * B A of its file's own numbers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file

from tests.worker import loras, tiny
from tests.worker.lora_deltas import AB, ALPHAS, DOWN_UP, added, assert_adds, delta, matrices, pipeline_of, weights_of
from tests.worker.loras import describe
from worker.models import peft_layers


def dotted(part: str, layer: str) -> str:
    return f"{part}.{layer}"


def bare(_: str, layer: str) -> str:
    return layer


def flat(network: str, text: str) -> Callable[[str, str], str]:
    """kohya's names: CLIP's layers are in its ``text_model``."""

    def name(part: str, layer: str) -> str:
        if not part.startswith("text_encoder"):
            return network + layer.replace(".", "_")
        prefix = text if part == "text_encoder" else "lora_te2_"
        inner = layer if layer == "text_projection" else f"text_model.{layer.removeprefix('text_model.')}"
        return prefix + inner.replace(".", "_")

    return name


def node_editor(part: str, layer: str) -> str:
    if not part.startswith("text_encoder"):
        return f"diffusion_model.{layer}"
    clip = "clip_l" if part == "text_encoder" else "clip_g"
    inner = layer if layer == "text_projection" else f"text_model.{layer.removeprefix('text_model.')}"
    return f"text_encoders.{clip}.transformer.{inner}"


NAMINGS: dict[str, tuple[Callable[[str, str], str], tuple[str, str], str]] = {
    "diffusers": (dotted, AB, ""),
    "diffusers with down and up": (dotted, DOWN_UP, ""),
    "diffusers, older": (dotted, (".lora.down.weight", ".lora.up.weight"), ""),
    "diffusers, older, of CLIP": (dotted, (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"), ""),
    "bare, as Qwen-Image-Lightning": (bare, DOWN_UP, "network"),
    "bare with the adapter's name, as DiffSynth": (
        bare,
        (".lora_A.default.weight", ".lora_B.default.weight"),
        "network",
    ),
    "PEFT": (lambda _, layer: f"base_model.model.{layer}", AB, "network"),
    "kohya": (flat("lora_unet_", "lora_te1_"), DOWN_UP, ""),
    "kohya for one text encoder": (flat("lora_unet_", "lora_te_"), DOWN_UP, ""),
    "OneTrainer": (flat("lora_transformer_", "lora_te1_"), DOWN_UP, ""),
    "node editors": (node_editor, DOWN_UP, ""),
    "node editors with A and B": (node_editor, AB, ""),
}
"""Layer -> its name in the file, what the matrices are called behind that, and whether text encoders have no names."""


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("naming", NAMINGS)
def test_every_layer_gets_its_own_alpha_over_its_own_rank_in_every_naming(
    naming: str, family: str, tmp_path: Path
) -> None:
    pipeline, (name, (down_name, up_name), only) = pipeline_of(family), NAMINGS[naming]
    network = "unet" if hasattr(pipeline, "unet") else "transformer"
    tensors, expected = {}, {}
    for index, (place, (down, up)) in enumerate(matrices(weights_of(pipeline, network if only else "")).items()):
        alpha, rank = ALPHAS[index % len(ALPHAS)], len(down)
        tensors[name(*place) + down_name], tensors[name(*place) + up_name] = down, up
        if alpha is not None:
            tensors[name(*place) + ".alpha"] = alpha.clone()
        expected[place] = delta(down, up, 1 if alpha is None else alpha.item() / rank)
    save_file(tensors, tmp_path / "made.safetensors")
    describe(tmp_path / "made.safetensors").check_fits("tiny", family, peft_layers.widths_of(pipeline))
    assert_adds(pipeline, tmp_path / "made.safetensors", expected)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2], ids=str
)
def test_a_file_may_hold_any_kind_of_floats(dtype: torch.dtype, tmp_path: Path) -> None:
    pipeline, tensors, expected = pipeline_of("flux"), {}, {}
    for (part, layer), (down, up) in matrices(weights_of(pipeline)).items():
        name = f"{part}.{layer}.lora_"
        tensors[f"{name}A.weight"], tensors[f"{name}B.weight"] = down.to(dtype), up.to(dtype)
        expected[part, layer] = delta(down.to(dtype).float(), up.to(dtype).float(), 1)
    save_file(tensors, tmp_path / "made.safetensors")
    assert_adds(pipeline, tmp_path / "made.safetensors", expected)


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_the_attention_of_older_diffusers_files_is_added_as_it_is(family: str, prefix: bool, tmp_path: Path) -> None:
    pipeline, tensors, expected = pipeline_of(family), {}, {}
    ends = {
        "to_q": "to_q",
        "to_k": "to_k",
        "to_v": "to_v",
        "to_out.0": "to_out",
        "q_proj": "to_q",
        "out_proj": "to_out",
    }
    for (part, layer), (down, up) in matrices(weights_of(pipeline, "" if prefix else "unet")).items():
        for end, old in ends.items():
            if layer.endswith(f".{end}"):
                attention = layer.removesuffix(f".{end}") + (".processor" if part == "unet" else "")
                name = (f"{part}." if prefix else "") + f"{attention}.{old}_lora"
                tensors[f"{name}.down.weight"], tensors[f"{name}.up.weight"] = down, up
                expected[part, layer] = delta(down, up, 1)
    save_file(tensors, tmp_path / "made.safetensors")
    assert_adds(pipeline, tmp_path / "made.safetensors", expected)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_diffusers_saves_with_pefts_config_is_added_as_peft_has_it(
    family: str, rslora: bool, tmp_path: Path
) -> None:
    """The config is in the file's header; a layer's own alpha is found by a regular expression."""
    trained, expected = pipeline_of(family), {}
    part = "unet" if hasattr(trained, "unet") else "transformer"
    network = getattr(trained, part)
    config = LoraConfig(
        r=4,
        lora_alpha=6,
        lora_dropout=0.5,
        target_modules=["to_q", "to_k", "to_v", "to_out.0"],
        rank_pattern={"to_k": 3},
        alpha_pattern={"to_q": 3, r"attn\d?.to_v": 5},
        use_rslora=rslora,
        init_lora_weights=False,
    )
    network.add_adapter(config, "digest")
    for name, layer in network.named_modules():
        if isinstance(layer, BaseTunerLayer):
            expected[part, name] = added(layer)
    assert len({layer.scaling["digest"] for layer in network.modules() if isinstance(layer, BaseTunerLayer)}) >= 3
    trained.save_lora_weights(
        tmp_path,
        weight_name="made.safetensors",
        **{
            f"{part}_lora_layers": get_peft_model_state_dict(network, adapter_name="digest"),
            f"{part}_lora_adapter_metadata": network.peft_config["digest"].to_dict(),
        },
    )
    assert_adds(pipeline_of(family), tmp_path / "made.safetensors", expected)


def test_a_text_encoders_alphas_in_the_header_are_found_by_its_older_names_too(tmp_path: Path) -> None:
    pipeline, expected = pipeline_of("sd"), {}
    made = matrices(weights_of(pipeline, "text_encoder"))
    fields = {"r": 4, "lora_alpha": 8, "alpha_pattern": {"text_model.encoder.layers.0.mlp.fc1": 5}}
    metadata = {"lora_adapter_metadata": json.dumps({f"text_encoder.{key}": value for key, value in fields.items()})}
    for (part, layer), (down, up) in made.items():
        alpha = 5 if layer == "encoder.layers.0.mlp.fc1" else 8
        expected[part, layer] = delta(down, up, alpha / len(down))
    loras.save_diffusers(tmp_path / "made.safetensors", made, metadata)
    assert_adds(pipeline, tmp_path / "made.safetensors", expected)


def test_a_file_of_one_network_alone_has_its_alphas_in_the_header_without_a_parts_name(tmp_path: Path) -> None:
    """As ``save_lora_adapter`` of diffusers' networks writes it."""
    trained = pipeline_of("flux").transformer
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["to_q"], init_lora_weights=False)
    trained.add_adapter(config, "digest")
    layers = {name: layer for name, layer in trained.named_modules() if isinstance(layer, BaseTunerLayer)}
    trained.save_lora_adapter(tmp_path, "digest", weight_name="made.safetensors")
    expected = {("transformer", name): added(layer) for name, layer in layers.items()}
    assert_adds(pipeline_of("flux"), tmp_path / "made.safetensors", expected)
