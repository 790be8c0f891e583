"""Adapters by their files' headers: names in three ways, families, widths, and files that are none."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from jobs.errors import InvalidLora, LoraMismatch, UnknownLora
from jobs.lora_layers import families_of, layers_of, misfit, width_key
from jobs.loras import LoraFolder
from tests.jobs.lora_files import pair, write

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
SD: dict[str, dict[str, tuple[int, ...]]] = {
    "diffusers": {
        f"unet.{BLOCK}.attn2.to_k.lora_A.weight": (4, 768),
        f"unet.{BLOCK}.attn2.to_k.lora_B.weight": (320, 4),
        f"unet.{BLOCK}.attn2.to_out.0.lora_A.weight": (4, 320),
        f"unet.{BLOCK}.attn2.to_out.0.lora_B.weight": (320, 4),
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight": (4, 768),
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight": (768, 4),
    },
    "older diffusers": {
        f"unet.{BLOCK}.attn2.processor.to_k_lora.down.weight": (4, 768),
        f"unet.{BLOCK}.attn2.processor.to_k_lora.up.weight": (320, 4),
        f"unet.{BLOCK}.attn2.processor.to_out_lora.down.weight": (4, 320),
        f"unet.{BLOCK}.attn2.processor.to_out_lora.up.weight": (320, 4),
        "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight": (4, 768),
        "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.up.weight": (768, 4),
    },
    "kohya": {
        f"lora_unet_{BLOCK.replace('.', '_')}_attn2_to_k.lora_down.weight": (4, 768),
        f"lora_unet_{BLOCK.replace('.', '_')}_attn2_to_k.lora_up.weight": (320, 4),
        f"lora_unet_{BLOCK.replace('.', '_')}_attn2_to_k.alpha": (),
        f"lora_unet_{BLOCK.replace('.', '_')}_attn2_to_out_0.lora_down.weight": (4, 320),
        f"lora_unet_{BLOCK.replace('.', '_')}_attn2_to_out_0.lora_up.weight": (320, 4),
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": (4, 768),
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": (768, 4),
    },
}
PEFT: dict[str, tuple[int, ...]] = {
    f"base_model.model.{BLOCK}.attn2.to_k.lora_A.weight": (4, 768),
    f"base_model.model.{BLOCK}.attn2.to_k.lora_B.weight": (320, 4),
}
WIDTHS = {
    width_key("network", f"{BLOCK.replace('.', '_')}_attn2_to_k"): (768, 320),
    width_key("network", f"{BLOCK.replace('.', '_')}_attn2_to_out_0"): (320, 320),
    width_key("text_encoder", "encoder_layers_0_self_attn_q_proj"): (768, 768),
}


@pytest.mark.parametrize("naming", SD)
def test_every_naming_is_read_as_the_same_layers(naming: str) -> None:
    layers = layers_of(SD[naming])
    assert set(layers) == set(layers_of(SD["diffusers"]))
    assert {layer.rank for layer in layers} == {4}
    assert misfit(layers, WIDTHS) is None


def test_peft_naming_is_the_networks() -> None:
    assert layers_of(PEFT) == [layer for layer in layers_of(SD["diffusers"]) if layer.name.endswith("to_k")]
    bare = {name.removeprefix("base_model.model."): shape for name, shape in PEFT.items()}
    assert layers_of(bare) == layers_of(PEFT)


@pytest.mark.parametrize(
    ("layer", "inputs", "families"),
    [
        (f"unet.{BLOCK}.attn2.to_k", 768, ("sd",)),
        (f"unet.{BLOCK}.attn2.to_k", 1024, ("sd",)),
        (f"unet.{BLOCK}.attn2.to_k", 2048, ("sdxl",)),
        (f"unet.{BLOCK}.attn2.to_k", 32, ("sd", "sdxl")),
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q", 640, ("sdxl",)),
        ("transformer.single_transformer_blocks.0.attn.to_q", 3072, ("flux",)),
        ("lora_unet_double_blocks_0_img_attn_qkv", 3072, ("flux",)),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", 1536, ("sd3",)),
        ("transformer.transformer_blocks.0.img_mlp.net.2", 12288, ("qwen-image",)),
        ("transformer.transformer_blocks.0.attn.to_q", 1536, ("sd3", "flux", "qwen-image")),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", 768, ("sd", "sdxl", "sd3", "flux")),
    ],
)
def test_the_family_is_told_by_names_and_text_width(layer: str, inputs: int, families: tuple[str, ...]) -> None:
    assert families_of(layers_of(pair(layer, inputs, 64))) == families


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ({"model.weight": (3, 3)}, "no LoRA weight"),
        (pair("unet.mid_block.x", 4, 4) | {"unet.mid_block.x.dora_scale": (4,)}, "dora_scale', which is of DoRA"),
        ({"lora_unet_mid_block_x.lokr_w1": (4, 4)}, "lokr_w1', which is of LoKr"),
        (pair("unet.mid_block.x", 4, 4) | {"unet.mid_block.x.lora_B.bias": (4,)}, "an adapter with biases"),
        ({"unet.mid_block.x.lora_A.weight": (2, 4)}, "only one of A and B"),
        (pair("unet.mid_block.x", 4, 4) | {"unet.mid_block.x.lora_B.weight": (4, 3)}, "rank 2 and a B of rank 3"),
        (pair("unet.mid_block.x", 4, 4) | {"unet.mid_block.x.alpha": (2,)}, r"an alpha of shape \[2\]"),
        (pair("unet.mid_block.x", 4, 4) | {"unet.mid_block.y.alpha": ()}, "'mid_block_y' has an alpha but neither A"),
        (pair("unet.mid_block.x", 4, 4) | pair("lora_unet_mid_block_x", 4, 4), "the same layer twice"),
        (pair("unet.mid_block.x", 4, 4) | {"unet.mid_block.x.lora_A.other.weight": (2, 4)}, "the same layer twice"),
        ({"unet.mid_block.x.lora_A.weight": (0, 4), "unet.mid_block.x.lora_B.weight": (4, 0)}, "rank 0"),
        ({"unet.mid_block.x.lora_A.weight": (2,), "unet.mid_block.x.lora_B.weight": (4, 2)}, "no matrices"),
        (pair("model.layers.0.q_proj", 4, 4), "no family that is served"),
        ({}, "no LoRA weights"),
    ],
)
def test_what_is_no_lora_is_refused_with_the_reason(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], sentence: str
) -> None:
    write(tmp_path / "odd.safetensors", shapes)
    with pytest.raises(InvalidLora, match=f"'odd' cannot be used: .*{sentence}"):
        LoraFolder(str(tmp_path)).file("odd")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("{", "not valid JSON"),
        ("[]", "a JSON object"),
        ('{"unet.lora_alpha": "many"}', "lora_alpha: This field must be a number"),
        ('{"unet.lora_alpha": NaN}', "lora_alpha: This field must be a finite number"),
        ('{"unet.alpha_pattern": {"(": 1}}', "alpha_pattern.* not a pattern for names"),
        ('{"unet.alpha_pattern": {"(?i)to_q": 1}}', "alpha_pattern.* not a pattern for names"),
        ('{"unet.alpha_pattern": {"to_q": -Infinity}}', "alpha_pattern.*finite number"),
    ],
)
def test_a_config_in_the_header_that_cannot_be_read_is_refused(tmp_path: Path, config: str, sentence: str) -> None:
    zeros = {name: np.zeros(shape, np.float32) for name, shape in SD["diffusers"].items()}
    save_file(zeros, tmp_path / "odd.safetensors", {"lora_adapter_metadata": config})
    with pytest.raises(InvalidLora, match=f"'odd' cannot be used: its lora_adapter_metadata .*{sentence}"):
        LoraFolder(str(tmp_path)).file("odd")


def test_matrices_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    numbers = {name: np.zeros(shape, np.int32) for name, shape in SD["diffusers"].items()}
    save_file(numbers, tmp_path / "odd.safetensors")
    with pytest.raises(InvalidLora, match=r"'odd' cannot be used: its tensor .* holds I32, not one of F64, F32"):
        LoraFolder(str(tmp_path)).file("odd")


@pytest.mark.parametrize(
    "layer",
    [
        "transformer_blocks.0.attn.to_k.lora_down",
        "transformer_blocks.0.attn.to_k.lora_A.default",
        "transformer.transformer_blocks.0.attn.to_k.lora_A",
        "lora_transformer_transformer_blocks_0_attn_to_k.lora_down",
        "lora_unet_transformer_blocks_0_attn_to_k.lora_down",
        "diffusion_model.transformer_blocks.0.attn.to_k.lora_A",
    ],
)
def test_the_published_namings_of_qwen_image_are_read_as_the_same_layer(layer: str) -> None:
    up = layer.replace("lora_down", "lora_up").replace("lora_A", "lora_B")
    layers = layers_of({f"{layer}.weight": (4, 64), f"{up}.weight": (32, 4)})
    assert misfit(layers, network(transformer_blocks_0_attn_to_k=(64, 32))) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a" * 20,
        (2).to_bytes(8, "little") + b"[]",
        (2**62).to_bytes(8, "little") + b"{}",
        (13).to_bytes(8, "little") + b'{"a": [1, 2]}',
        (5).to_bytes(8, "little") + b"\xff\xfe{}}",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
    ],
)
def test_bytes_that_are_no_safetensors_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "odd.safetensors").write_bytes(data)
    with pytest.raises(InvalidLora, match="'odd' cannot be used"):
        LoraFolder(str(tmp_path)).file("odd")


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "cut.safetensors", SD["kohya"])
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InvalidLora, match="bytes of weights"):
        LoraFolder(str(tmp_path)).file("cut")


def test_a_file_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    folder = LoraFolder(str(tmp_path))
    write(tmp_path / "style.safetensors", pair("unet.mid_block.x", 4, 4))
    assert folder.file("style").rank == 2
    write(tmp_path / "style.safetensors", SD["kohya"])
    assert folder.file("style").rank == 4


@pytest.mark.parametrize("name", ["../secret", "sub/inner", "/etc/passwd", "secret.safetensors", "", ".", "SECRET"])
def test_a_name_leads_to_no_file_outside_the_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path / "secret.safetensors", SD["kohya"])
    folder = tmp_path / "loras"
    (folder / "sub").mkdir(parents=True)
    write(folder / "sub" / "inner.safetensors", SD["kohya"])
    write(folder / "style.safetensors", SD["kohya"])
    with pytest.raises(UnknownLora, match="Known adapters: style"):
        LoraFolder(str(folder)).file(name)


def test_a_file_whose_name_json_cannot_hold_is_not_seen(tmp_path: Path) -> None:
    write(tmp_path / "style.safetensors", SD["kohya"])
    for name in (b"\xff.safetensors", b"new\nline.safetensors"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"")
    assert list(LoraFolder(str(tmp_path)).paths()) == ["style"]


def test_without_a_folder_every_name_is_unknown() -> None:
    assert LoraFolder(None).paths() == {}
    with pytest.raises(UnknownLora, match=r"has no adapters. Send the request without loras\."):
        LoraFolder(None).file("style")


def test_an_adapter_of_another_family_or_width_is_refused_with_both_named(tmp_path: Path) -> None:
    file = LoraFolder(str(write(tmp_path / "style.safetensors", SD["diffusers"]).parent)).file("style")
    file.check_fits("mine", "sd", None)
    file.check_fits("mine", "sd", WIDTHS)
    with pytest.raises(LoraMismatch, match="'style' was made for sd; model 'mine' is flux"):
        file.check_fits("mine", "flux", None)
    with pytest.raises(LoraMismatch, match="wide in the adapter and 1 -> 2 in the model"):
        file.check_fits("mine", "sd", dict.fromkeys(WIDTHS, (1, 2)))
    with pytest.raises(LoraMismatch, match="the model has no layer"):
        file.check_fits("mine", "sd", {})


def network(**widths: tuple[int, int]) -> dict[str, tuple[int, int]]:
    return {width_key("network", name): width for name, width in widths.items()}


FIRST_CODE = {
    "input_blocks_4_1_transformer_blocks_0_attn1_to_q": network(
        down_blocks_0_resnets_0_conv1=(320, 320),
        down_blocks_0_resnets_1_conv1=(320, 320),
        down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q=(64, 96),
    ),
    "double_blocks_3_img_attn_qkv": network(
        transformer_blocks_3_attn_to_q=(64, 32),
        transformer_blocks_3_attn_to_k=(64, 32),
        transformer_blocks_3_attn_to_v=(64, 32),
    ),
    "joint_blocks_3_context_block_mlp_fc1": network(transformer_blocks_3_ff_context_net_0_proj=(64, 96)),
}


@pytest.mark.parametrize("name", FIRST_CODE)
def test_layers_named_as_in_the_models_first_code_are_checked_like_diffusers_own(name: str) -> None:
    """Rule until now: they were left to the loader."""
    assert misfit(layers_of(pair(f"lora_unet_{name}", 64, 96)), FIRST_CODE[name]) is None
    wide = misfit(layers_of(pair(f"lora_unet_{name}", 65, 96)), FIRST_CODE[name])
    assert wide and f"{name!r} is 65 -> 96 wide in the adapter and 64 -> 96 in the model" in wide
    unknown = misfit(layers_of(pair(f"lora_unet_{name}_x", 64, 96)), FIRST_CODE[name])
    assert unknown == f"the model has no layer '{name}_x' in its network"


def test_one_layer_of_a_model_under_two_names_is_a_misfit() -> None:
    widths = FIRST_CODE["double_blocks_3_img_attn_qkv"]
    twice = pair("lora_unet_double_blocks_3_img_attn_qkv", 64, 96) | pair("transformer_blocks.3.attn.to_q", 64, 32)
    reason = misfit(layers_of(twice), widths)
    assert reason and "one and the same in the model" in reason


def test_the_header_alone_is_read(tmp_path: Path) -> None:
    """A file whose weights would be 40 TB, as a sparse file: its header says so, and that is all that is looked at."""
    sides = (2, 2_500_000_000_000)
    offsets = ([0, 8 * sides[1]], [8 * sides[1], 16 * sides[1]])
    tensors = {
        "unet.mid_block.x.lora_A.weight": {"dtype": "F32", "shape": list(sides), "data_offsets": offsets[0]},
        "unet.mid_block.x.lora_B.weight": {"dtype": "F32", "shape": list(sides[::-1]), "data_offsets": offsets[1]},
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    with (tmp_path / "huge.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**30)
    with pytest.raises(InvalidLora, match=r"'huge' cannot be used: .* lacks some of its bytes of weights\.$"):
        LoraFolder(str(tmp_path)).file("huge")


def test_a_link_is_followed_inside_the_folder_and_refused_out_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "loras"
    folder.mkdir()
    write(tmp_path / "outside.safetensors", SD["diffusers"])
    write(folder / "inside.safetensors", SD["diffusers"])
    (folder / "out.safetensors").symlink_to(tmp_path / "outside.safetensors")
    (folder / "in.safetensors").symlink_to(folder / "inside.safetensors")
    assert LoraFolder(str(folder)).file("in").rank == 4
    with pytest.raises(InvalidLora, match="'out' cannot be used: it is a link that leads out"):
        LoraFolder(str(folder)).file("out")


def test_a_folder_that_is_a_link_itself_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    write(tmp_path / "real" / "a.safetensors", SD["diffusers"])
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert LoraFolder(str(tmp_path / "link")).file("a").rank == 4


@pytest.mark.parametrize("kind", ["a header of 90 MB", "30,000 tensors"])
def test_a_file_that_takes_long_to_read_is_refused_and_costs_nothing_the_next_time(tmp_path: Path, kind: str) -> None:
    header = {f"unet.{k}.lora_A.weight": {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]} for k in range(30_000)}
    raw = json.dumps(header).encode() if kind == "30,000 tensors" else b"{" + b" " * 90_000_000 + b"}"
    with (tmp_path / "odd.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(100_000_000)
    folder = LoraFolder(str(tmp_path))
    spent = []
    for _ in range(2):
        began = time.process_time()
        with pytest.raises(InvalidLora, match=r"'odd' cannot be used: its .* that are allowed|bytes of weights"):
            folder.file("odd")
        spent.append(time.process_time() - began)
    assert spent[0] < 2 and spent[1] < 0.05


def test_a_bad_file_is_read_again_once_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"nothing")
    folder = LoraFolder(str(tmp_path))
    with pytest.raises(InvalidLora):
        folder.file("a")
    write(file, SD["diffusers"])
    assert folder.file("a").rank == 4
