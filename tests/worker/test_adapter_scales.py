"""What an adapter adds to each layer, in every naming and family: alpha / rank * B A of its file's own numbers."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_sd3_transformer_checkpoint_to_diffusers,
)
from peft import LoraConfig, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file

from jobs.errors import BadLora
from jobs.loras import describe
from tests.worker import loras, tiny
from tests.worker.ldm import unet_tensors
from tests.worker.published import narrow_converter, network_tensors
from tests.worker.test_single_files import sd3
from worker import peft_layers
from worker.state import Adapter

Deltas = Mapping[tuple[str, str], torch.Tensor]
"""Part of the pipeline and layer -> what is added to its weight."""

ALPHAS: tuple[torch.Tensor | None, ...] = (
    torch.tensor(0.5),
    torch.tensor([16.0]),  # one dimension
    None,  # counts as the rank
    torch.tensor(1.0).half(),
    torch.tensor(0.0),
    torch.tensor(8),  # a whole number
    torch.tensor([3.0]).bfloat16(),
)


def pipeline_of(family: str) -> Any:
    known = tiny.FAMILIES[family]
    mode = next(reversed(known.pipelines))
    return tiny.pipeline(family, mode, next(iter(known.schedulers)))


def weights_of(pipeline: Any, parts: str = "") -> dict[tuple[str, str], torch.Tensor]:
    """Weights of every layer that an adapter can change."""
    found = {}
    for part, network in peft_layers.parts_of(pipeline).items():
        for name, module in network.named_modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and part.startswith(parts):
                found[part, name] = module.weight
    return found


def matrices(weights: Mapping[Any, torch.Tensor]) -> dict[Any, tuple[torch.Tensor, torch.Tensor]]:
    """A and B of several ranks."""
    generator, made = torch.Generator().manual_seed(0), {}
    for index, (place, weight) in enumerate(weights.items()):
        outputs, inputs, *kernel = weight.shape
        rank = 1 + index % 4
        down = torch.randn(rank, inputs, *kernel, generator=generator)
        made[place] = (down, torch.randn(outputs, rank, *[1 for _ in kernel], generator=generator))
    return made


def delta(down: torch.Tensor, up: torch.Tensor, scale: float) -> torch.Tensor:
    return (scale * up.flatten(1) @ down.flatten(1)).view(len(up), *down.shape[1:])


def added(layer: Any) -> torch.Tensor:
    """What peft adds to a layer's weight."""
    return delta(layer.lora_A["digest"].weight, layer.lora_B["digest"].weight, layer.scaling["digest"]).detach()


def loaded(pipeline: Any, file: Path) -> Deltas:
    """Load an adapter, put it on, and read off what peft adds to each layer."""
    peft_layers.load(pipeline, describe(file), "digest", peft_layers.widths_of(pipeline))
    peft_layers.put_on(pipeline, (Adapter("digest", file.stem, 1.0),))
    found = {}
    for part, network in peft_layers.parts_of(pipeline).items():
        for name, layer in network.named_modules():
            if isinstance(layer, BaseTunerLayer):
                found[part, name] = added(layer)
    return found


def assert_adds(pipeline: Any, file: Path, expected: Deltas) -> None:
    found = loaded(pipeline, file)
    assert found.keys() == expected.keys()
    for place, wanted in expected.items():
        torch.testing.assert_close(found[place], wanted, msg=lambda text, place=place: f"{place}: {text}")


# ---- layers called as in diffusers


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


AB, DOWN_UP = (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight")
NAMINGS: dict[str, tuple[Callable[[str, str], str], tuple[str, str], str]] = {
    "diffusers": (dotted, AB, ""),
    "diffusers with down and up": (dotted, DOWN_UP, ""),
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
    assert_adds(pipeline, tmp_path / "made.safetensors", expected)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_the_attention_of_older_diffusers_files_is_added_as_it_is(family: str, tmp_path: Path) -> None:
    pipeline, tensors, expected = pipeline_of(family), {}, {}
    ends = {
        "to_q": "to_q",
        "to_k": "to_k",
        "to_v": "to_v",
        "to_out.0": "to_out",
        "q_proj": "to_q",
        "out_proj": "to_out",
    }
    for (part, layer), (down, up) in matrices(weights_of(pipeline)).items():
        for end, old in ends.items():
            if layer.endswith(f".{end}"):
                attention = layer.removesuffix(f".{end}") + (".processor" if part == "unet" else "")
                tensors[f"{part}.{attention}.{old}_lora.down.weight"] = down
                tensors[f"{part}.{attention}.{old}_lora.up.weight"] = up
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


# ---- layers called as in the model's first code


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

FIRST_CODE_NAMINGS = {
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
