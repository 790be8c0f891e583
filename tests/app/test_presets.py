"""Presets and limits of the catalog: what a request becomes."""

from pathlib import Path
from typing import Any

import pytest

from app.submission import settle_parameters
from jobs.catalog import Catalog, load_catalog
from jobs.errors import BadModel, InvalidField
from jobs.schema import InpaintParameters, InpaintRequest

MODEL = """
[models.large]
family = "sdxl"
source = "/models/large"
num_inference_steps = 30
guidance_scale = 7.5
strength = 1.0
scheduler = "euler"
max_num_inference_steps = 50
max_n = 2
"""
LIGHTNING = """
[models.large.presets.lightning]
description = "4 steps"
num_inference_steps = 4
guidance_scale = 0.0
scheduler = "dpmpp_2m"
"""


def catalog(folder: Path, text: str = MODEL + LIGHTNING) -> Catalog:
    file = folder / "catalog.toml"
    file.write_text(text)
    return load_catalog(str(file))


def settled(folder: Path, **asked: Any) -> InpaintParameters:
    return settle_parameters(InpaintRequest.model_validate(asked), catalog(folder))


def test_what_neither_request_nor_preset_says_is_the_models_default(tmp_path: Path) -> None:
    text = MODEL.replace("strength = 1.0", 'strength = 0.9\nmasked_content = "fill"')
    parameters = settle_parameters(InpaintRequest(), catalog(tmp_path, text))
    assert (parameters.num_inference_steps, parameters.guidance_scale, parameters.scheduler) == (30, 7.5, "euler")
    assert (parameters.model, parameters.strength, parameters.masked_content) == ("large", 0.9, "fill")


def test_a_model_that_cannot_reuse_features_is_not_asked_to(tmp_path: Path) -> None:
    text = MODEL.replace("sdxl", "flux").replace('"euler"', '"flow_euler"')
    with pytest.raises(InvalidField, match="only models of the families sd and sdxl can reuse features"):
        settle_parameters(InpaintRequest(cache_interval=2), catalog(tmp_path, text))


def test_a_preset_wins_over_the_models_defaults(tmp_path: Path) -> None:
    parameters = settled(tmp_path, preset="lightning")
    assert (parameters.num_inference_steps, parameters.guidance_scale, parameters.scheduler) == (4, 0.0, "dpmpp_2m")
    assert parameters.strength == 1.0


def test_a_field_that_was_sent_wins_over_the_preset(tmp_path: Path) -> None:
    parameters = settled(tmp_path, preset="lightning", num_inference_steps=6)
    assert (parameters.num_inference_steps, parameters.guidance_scale) == (6, 0.0)


def test_a_preset_may_reuse_features(tmp_path: Path) -> None:
    known = catalog(tmp_path, MODEL + LIGHTNING + "cache_interval = 2\n")
    assert settle_parameters(InpaintRequest(preset="lightning"), known).cache_interval == 2
    assert settle_parameters(InpaintRequest(preset="lightning", cache_interval=1), known).cache_interval == 1
    assert settle_parameters(InpaintRequest(), known).cache_interval == 1


def test_an_unknown_preset_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="Known presets: lightning"):
        settled(tmp_path, preset="thunder")


def test_a_model_without_presets_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="The model has none"):
        settle_parameters(InpaintRequest(preset="fast"), catalog(tmp_path, MODEL))


def test_a_models_own_limits_are_held(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="num_inference_steps: model 'large' takes at most 50"):
        settled(tmp_path, num_inference_steps=51)
    with pytest.raises(InvalidField, match="n: model 'large' takes at most 2"):
        settled(tmp_path, n=3)
    parameters = settled(tmp_path, num_inference_steps=50, n=2)
    assert (parameters.num_inference_steps, parameters.n) == (50, 2)


def test_the_pocket_model_has_a_fast_preset() -> None:
    parameters = settle_parameters(InpaintRequest(preset="fast"), load_catalog())
    assert (parameters.model, parameters.num_inference_steps) == ("pocket", 2)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("embedded", "embedded"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "hub"),
        ("/models/a.safetensors", "file"),
        ("models/a.safetensors", "file"),
        ("/models/folder", "folder"),
        ("./models/folder", "folder"),
        ("~/folder", "folder"),
        ("folder", "folder"),
        ("a/deep/folder", "folder"),
    ],
)
def test_the_form_of_a_source_says_what_it_is(tmp_path: Path, source: str, kind: str) -> None:
    assert catalog(tmp_path, MODEL.replace("/models/large", source)).model("large").source_kind == kind


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ('revision = "main"', "only for a source on the hub"),
        ('config = "/models/configs"', "only for a .safetensors file"),
        ("[models.large.presets.slow]\nnum_inference_steps = 60", "defaults and presets go up to 60"),
        (
            '[models.flow]\nfamily = "flux"\nsource = "/f"\nnum_inference_steps = 4\nguidance_scale = 1\n'
            'strength = 1\nscheduler = "flow_euler"\n'
            "[models.flow.presets.fast]\nnum_inference_steps = 4\ncache_interval = 2",
            "only models of the families sd and sdxl can reuse features",
        ),
    ],
)
def test_a_catalog_that_contradicts_itself_is_refused(tmp_path: Path, more: str, reason: str) -> None:
    with pytest.raises(BadModel, match=reason):
        catalog(tmp_path, MODEL + more)
