"""A family's facts, and that a catalog entry of two lines is a whole one."""

from pathlib import Path
from typing import get_args

import pytest

from jobs.catalog import ModelEntry, load_catalog
from jobs.errors import BadModel
from jobs.families import FAMILIES, Family, guided
from jobs.schedulers import fitting_schedulers
from jobs.schema import InpaintRequest

NEEDS = {"feedforward": 'source = "/models/m.pt"\nconvention = "lama"\nallow_pickle = true'}
"""What an entry has to say beside its family, where that is not the source alone."""
DENOISING = [family for family in get_args(Family) if FAMILIES[family].denoises]


@pytest.mark.parametrize("family", get_args(Family))
def test_an_entry_of_family_and_source_alone_resolves_a_request(family: Family, tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(f'[models.m]\nfamily = "{family}"\n' + NEEDS.get(family, 'source = "/models/m"'))
    catalog, facts = load_catalog(str(file)), FAMILIES[family]
    parameters = catalog.resolve(InpaintRequest(seed=3, prompt="a bench" if facts.denoises else ""))
    assert parameters.scheduler in fitting_schedulers(family)
    found = {name: getattr(parameters, name) for name in type(facts.defaults).model_fields}
    assert found == facts.defaults.model_dump()
    entry = catalog.models["m"]
    assert (entry.size_px, entry.max_size_px) == (facts.size_px, facts.max_size_px)


@pytest.mark.parametrize("family", DENOISING)
def test_each_field_of_sampling_comes_from_the_request_then_the_preset_then_the_entry(family: Family) -> None:
    fields = {"num_inference_steps": 7, "guidance_scale": 2.5, "strength": 0.7, "masked_content": "noise"}
    preset = {"num_inference_steps": 5, "guidance_scale": 2.0, "strength": 0.6, "masked_content": "fill"}
    asked = {"num_inference_steps": 3, "guidance_scale": 1.5, "strength": 0.5, "masked_content": "original"}
    entry = ModelEntry.model_validate({"family": family, "source": "/m", "presets": {"p": preset}} | fields)
    for request, expected in (({}, fields), ({"preset": "p"}, preset), ({"preset": "p"} | asked, asked)):
        resolved = entry.resolve("m", InpaintRequest.model_validate(request))
        assert {name: getattr(resolved, name) for name in expected} == expected
    for name, value in asked.items():
        resolved = entry.resolve("m", InpaintRequest.model_validate({"preset": "p", name: value}))
        assert {field: getattr(resolved, field) for field in preset} == preset | {name: value}


def test_a_larger_native_size_raises_the_largest() -> None:
    entry = ModelEntry.model_validate({"family": "sd", "source": "/m", "size_px": 1536})
    assert entry.max_size_px == 1536


def test_a_family_that_is_none_is_named_with_those_there_are(tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text('[models.m]\nfamily = "dalle"\nsource = "/m"\n')
    with pytest.raises(BadModel, match="qwen-image"):
        load_catalog(str(file))


def test_guidance_takes_two_rows_where_two_prompts_differ_and_the_scale_is_no_input() -> None:
    entry = ModelEntry.model_validate({"family": "sd", "source": "/m"})
    for fields, expected in (
        ({"prompt": "a"}, True),
        ({"prompt": "a", "negative_prompt": "a"}, False),
        ({"prompt": "a", "guidance_scale": 1.0}, False),
    ):
        parameters = entry.resolve("m", InpaintRequest.model_validate(fields))
        assert guided(parameters, "sd") is expected
        assert guided(parameters, "flux") is False


def test_the_defaults_of_each_family_are_documented() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "models.md").read_text().splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    documented = {row[0]: row[1:] for row in rows if row[0] in FAMILIES and len(row) == 4}
    assert documented == {
        name: [
            f"{facts.defaults.num_inference_steps}, {facts.defaults.guidance_scale}, {facts.defaults.strength}",
            facts.defaults.scheduler,
            f"{facts.size_px}, {facts.max_size_px}",
        ]
        for name, facts in FAMILIES.items()
    }
