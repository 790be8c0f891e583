"""Presets and limits of the catalog: what a request becomes."""

from pathlib import Path
from typing import Any

import pytest

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
    return catalog(folder).resolve(InpaintRequest.model_validate(asked))


def test_what_neither_request_nor_preset_says_is_the_models_default(tmp_path: Path) -> None:
    text = MODEL.replace("strength = 1.0", 'strength = 0.9\nmasked_content = "fill"')
    parameters = catalog(tmp_path, text).resolve(InpaintRequest())
    assert (parameters.num_inference_steps, parameters.guidance_scale, parameters.scheduler) == (30, 7.5, "euler")
    assert (parameters.model, parameters.strength, parameters.masked_content) == ("large", 0.9, "fill")


def test_a_model_that_cannot_reuse_features_is_not_asked_to(tmp_path: Path) -> None:
    text = MODEL.replace("sdxl", "flux").replace('"euler"', '"flow_euler"')
    with pytest.raises(InvalidField, match="only models of the families sd and sdxl can reuse features"):
        catalog(tmp_path, text).resolve(InpaintRequest(cache_interval=2))


def test_a_preset_wins_over_the_models_defaults(tmp_path: Path) -> None:
    parameters = settled(tmp_path, preset="lightning")
    assert (parameters.num_inference_steps, parameters.guidance_scale, parameters.scheduler) == (4, 0.0, "dpmpp_2m")
    assert parameters.strength == 1.0


def test_a_field_that_was_sent_wins_over_the_preset(tmp_path: Path) -> None:
    parameters = settled(tmp_path, preset="lightning", num_inference_steps=6)
    assert (parameters.num_inference_steps, parameters.guidance_scale) == (6, 0.0)


def test_a_preset_may_reuse_features(tmp_path: Path) -> None:
    known = catalog(tmp_path, MODEL + LIGHTNING + "cache_interval = 2\n")
    assert known.resolve(InpaintRequest(preset="lightning")).cache_interval == 2
    assert known.resolve(InpaintRequest(preset="lightning", cache_interval=1)).cache_interval == 1
    assert known.resolve(InpaintRequest()).cache_interval == 1


def test_an_unknown_preset_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="Known presets: lightning"):
        settled(tmp_path, preset="thunder")


def test_a_model_without_presets_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="The model has none"):
        catalog(tmp_path, MODEL).resolve(InpaintRequest(preset="fast"))


def test_a_models_own_limits_are_held(tmp_path: Path) -> None:
    with pytest.raises(InvalidField, match="num_inference_steps: model 'large' takes at most 50"):
        settled(tmp_path, num_inference_steps=51)
    with pytest.raises(InvalidField, match="n: model 'large' takes at most 2"):
        settled(tmp_path, n=3)
    parameters = settled(tmp_path, num_inference_steps=50, n=2)
    assert (parameters.num_inference_steps, parameters.n) == (50, 2)


def test_the_pocket_model_has_a_fast_preset() -> None:
    parameters = load_catalog().resolve(InpaintRequest(preset="fast"))
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
        ("[models.large.presets.slow]\nnum_inference_steps = 60", "defaults, presets and tasks go up to 60"),
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


REMOVE = """
[models.large.tasks.remove]
strength = 0.5
mask_grow = 3
scheduler = "dpmpp_2m"
"""


def test_a_removal_takes_the_familys_recipe_and_a_fill_none(tmp_path: Path) -> None:
    removal, fill = settled(tmp_path, task="remove"), settled(tmp_path)
    assert (removal.masked_content, removal.strength, removal.mask_grow) == ("fill", 0.65, 8)
    assert "object" in removal.negative_prompt and removal.prompt == ""
    assert (fill.masked_content, fill.strength, fill.mask_grow, fill.negative_prompt) == ("original", 1.0, 0, "")


def test_the_catalogs_recipe_wins_over_the_familys_a_preset_over_both_and_the_request_over_all(tmp_path: Path) -> None:
    models = catalog(tmp_path, MODEL + LIGHTNING + REMOVE)
    recipe = models.resolve(InpaintRequest(task="remove"))
    assert (recipe.strength, recipe.mask_grow, recipe.scheduler, recipe.masked_content) == (0.5, 3, "dpmpp_2m", "fill")
    assert models.resolve(InpaintRequest(task="remove", preset="lightning")).guidance_scale == 0.0
    own = {"strength": 0.9, "mask_grow": 0, "negative_prompt": "", "scheduler": "euler", "masked_content": "noise"}
    asked = models.resolve(InpaintRequest.model_validate({"task": "remove"} | own))
    assert asked.model_dump(include=set(own)) == own


def test_another_model_does_it_for_requests_that_name_none(tmp_path: Path) -> None:
    small = '[models.small]\nfamily = "sd"\nsource = "/s"\n[models.small.tasks.remove]\nstrength = 0.3\n'
    models = catalog(tmp_path, MODEL + '[models.large.tasks.remove]\nmodel = "small"\n' + small)
    removal = models.resolve(InpaintRequest(task="remove"))
    assert (removal.model, removal.strength) == ("small", 0.3)
    assert models.resolve(InpaintRequest(task="remove", model="large")).model == "large"
    assert models.resolve(InpaintRequest()).model == "large"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ('model = "nobody"', r"models\.large\.tasks\.remove\.model: there is no model 'nobody'"),
        ("num_inference_steps = 60", "go up to 60"),
        ('scheduler = "flow_euler"', "flow_euler"),
        ("mask_grow = 1000", "mask_grow"),
        ("nonsense = 1", "nonsense"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(tmp_path: Path, more: str, reason: str) -> None:
    with pytest.raises(BadModel, match=reason):
        catalog(tmp_path, f"{MODEL}[models.large.tasks.remove]\n{more}")
