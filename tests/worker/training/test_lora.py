"""Adapters as the training builds and writes them: which layers, and who can read the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker import tiny
from tests.worker.loras import describe
from worker.training.lora import Layers, add_lora, lora_layers, lora_modules, save_lora

RANK = 4
FAMILIES = [(family, mode) for family, made in tiny.FAMILIES.items() for mode in made.pipelines]


def _unet() -> Any:
    return tiny.pipeline("sd", "concat", "ddim").unet


def _output(unet: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    sample, text = torch.randn(2, 9, 8, 8, generator=generator), torch.randn(2, 5, 32, generator=generator)
    output: torch.Tensor = unet(sample, torch.tensor([10, 700]), text).sample
    return output


def test_a_fresh_adapter_of_all_layers_changes_nothing_either() -> None:
    unet = _unet()
    before = _output(unet)
    add_lora(unet, RANK, 0, "all")
    assert torch.equal(_output(unet), before)
    assert any(isinstance(part.get_base_layer(), torch.nn.Conv2d) for part in lora_modules(unet).values())


def test_the_seed_decides_a() -> None:
    first, again, other = (add_lora(_unet(), RANK, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_attention_is_the_four_projections_of_each_attention() -> None:
    names = lora_layers(_unet(), "attention")
    assert {name.partition("attn")[2][2:] for name in names} == {"to_q", "to_k", "to_v", "to_out.0"}
    assert set(names) < set(lora_layers(_unet(), "all"))
    with pytest.raises(ValueError, match="attention"):
        lora_layers(torch.nn.Linear(2, 2), "attention")


@pytest.mark.parametrize("layers", ["attention", "all"])
@pytest.mark.parametrize(("family", "mode"), FAMILIES)
def test_diffusers_loads_every_matrix_of_the_file_and_the_service_knows_its_family(
    family: str, mode: str, layers: Layers, tmp_path: Path
) -> None:
    ours, theirs = (tiny.model(family, mode) for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    for weight in add_lora(ours.network, RANK, 0, layers):
        weight.data.normal_(generator=generator)
    save_lora(ours.pipeline, ours.network_part, tmp_path / "mine.safetensors")
    theirs.pipeline.load_lora_weights(tmp_path, weight_name="mine.safetensors", adapter_name="mine")
    written, read = lora_modules(ours.network), lora_modules(theirs.network)
    assert written.keys() == read.keys()
    for name, part in written.items():
        assert torch.equal(part.lora_A["default"].weight, read[name].lora_A["mine"].weight), name
        assert torch.equal(part.lora_B["default"].weight, read[name].lora_B["mine"].weight), name
        assert part.scaling["default"] == read[name].scaling["mine"] == 1
    assert family in describe(tmp_path / "mine.safetensors").families
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]
