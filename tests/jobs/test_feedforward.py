"""Catalog entries and requests of networks that paint in one call: what would do nothing is refused."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.catalog import Catalog, ModelEntry, load_catalog
from jobs.errors import BadModel, InvalidField
from jobs.feedforward import UNUSED
from jobs.schema import InpaintRequest

ENTRY: dict[str, Any] = {
    "family": "feedforward",
    "source": "/models/lama.pt",
    "convention": "lama",
    "allow_pickle": True,
}
DENOISING: dict[str, Any] = {"family": "sd", "source": "/models/sd"}


def entry(**changed: Any) -> ModelEntry:
    return ModelEntry.model_validate({name: value for name, value in (ENTRY | changed).items() if value is not None})


def catalog(**tasks: Any) -> Catalog:
    return Catalog.model_validate({"models": {"large": DENOISING | {"tasks": tasks}, "lama": ENTRY}})


def test_an_entry_runs_in_one_step_on_what_surrounds_the_hole() -> None:
    made = entry()
    assert (made.num_inference_steps, made.scheduler, made.max_n, made.max_num_inference_steps) == (1, "none", 1, 1)
    assert made.needs_surroundings and not ModelEntry.model_validate(DENOISING).needs_surroundings
    assert (made.size_px, made.max_size_px) == (512, 1024)
    fixed = entry(convention="migan", size_px=256)
    assert (fixed.size_px, fixed.max_size_px) == (256, 256)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"convention": None}, "convention: say how"),
        ({"convention": "other"}, "convention"),
        ({"allow_pickle": False}, "allow_pickle: TorchScript is a program"),
        ({"source": "/models/lama"}, "source: family 'feedforward' is read from a TorchScript file"),
        ({"source": "org/lama"}, "source: family 'feedforward'"),
        ({"source": "/models/lama.safetensors"}, "source: family 'feedforward'"),
        ({"convention": "migan", "max_size_px": 1024}, "max_size_px: convention 'migan' runs at one size"),
        ({"strength": 0.5}, "strength: a network of family 'feedforward' has no use for 0.5"),
        ({"num_inference_steps": 4}, "num_inference_steps"),
        ({"scheduler": "ddim"}, "scheduler"),
        ({"guidance_scale": 3.0}, "guidance_scale"),
        ({"masked_content": "fill"}, "masked_content"),
        ({"cache_interval": 2}, "cache_interval"),
        ({"schedulers": ["none"]}, "schedulers"),
        ({"presets": {"fast": {"num_inference_steps": 1}}}, "presets"),
        ({"max_n": 2}, "max_n"),
        ({"hires_tiles": 4}, "hires_tiles"),
        ({"hires_strength": 0.3}, "hires_strength"),
        ({"max_num_inference_steps": 50}, "max_num_inference_steps"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"prediction_type": "epsilon"}, "prediction_type"),
        ({"config": "/configs"}, "config"),
        ({"tasks": {"remove": {"strength": 0.65}}}, r"tasks\.remove\.strength"),
        ({"tasks": {"remove": {"negative_prompt": "people"}}}, r"tasks\.remove\.negative_prompt"),
    ],
)
def test_an_entry_that_sets_what_does_nothing_or_leaves_out_what_is_needed_is_refused(
    changed: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        entry(**changed)


def test_other_families_have_no_convention() -> None:
    with pytest.raises(ValidationError, match="convention: only for family 'feedforward', not 'sd'"):
        ModelEntry.model_validate(DENOISING | {"convention": "lama"})


SENT: dict[str, Any] = {
    "prompt": "sand",
    "negative_prompt": "people",
    "prompt_syntax": "a1111",
    "num_inference_steps": 8,
    "guidance_scale": 7.5,
    "strength": 0.5,
    "scheduler": "ddim",
    "masked_content": "fill",
    "cache_interval": 2,
    "loras": [{"name": "ink"}],
    "hires": "tile",
}


@pytest.mark.parametrize("field", UNUSED)
def test_a_request_that_sends_what_does_nothing_is_refused_by_the_fields_name(field: str) -> None:
    with pytest.raises(InvalidField, match=f"^{field}: model 'lama' paints in one call"):
        entry().resolve("lama", InpaintRequest.model_validate({field: SENT[field]}))


def test_several_are_named_together_and_the_models_own_values_are_taken() -> None:
    with pytest.raises(InvalidField, match=r"^prompt, strength: "):
        entry().resolve("lama", InpaintRequest(prompt="sand", strength=0.5))
    own = {
        "prompt": "",
        "num_inference_steps": 1,
        "guidance_scale": 1.0,
        "strength": 1.0,
        "scheduler": "none",
        "hires": "off",
    }
    resolved = entry().resolve("lama", InpaintRequest.model_validate(own | {"seed": 5, "loras": []}))
    assert (resolved.scheduler, resolved.seed, resolved.num_inference_steps) == ("none", 5, 1)


def test_the_same_picture_is_not_made_several_times() -> None:
    with pytest.raises(InvalidField, match=r"^n: model 'lama' draws nothing at random"):
        entry().resolve("lama", InpaintRequest(n=2))


def test_the_scheduler_none_is_refused_for_models_that_denoise() -> None:
    with pytest.raises(InvalidField, match="scheduler: 'none' does not fit the model"):
        ModelEntry.model_validate(DENOISING).resolve("m", InpaintRequest(scheduler="none"))


def test_a_removal_that_names_no_model_goes_to_the_one_that_the_catalog_names() -> None:
    models = catalog(remove={"model": "lama", "strength": 0.5})
    removal = models.resolve(InpaintRequest(task="remove"))
    assert (removal.model, removal.instead_of, removal.mask_grow, removal.strength) == ("lama", "large", 8, 1.0)
    assert removal.negative_prompt == ""
    for request in (InpaintRequest(), InpaintRequest(task="remove", model="large"), InpaintRequest(task="extend")):
        assert (models.resolve(request).model, models.resolve(request).instead_of) == ("large", None)
    assert models.resolve(InpaintRequest(task="remove", model="lama")).instead_of is None
    with pytest.raises(InvalidField, match=r"^prompt: model 'lama'"):
        models.resolve(InpaintRequest(task="remove", prompt="sand"))


def test_a_model_may_name_itself_and_workers_of_older_versions_read_its_jobs() -> None:
    removal = catalog(remove={"model": "large"}).resolve(InpaintRequest(task="remove"))
    assert removal.instead_of is None and "instead_of" not in removal.model_dump()


@pytest.mark.parametrize("last", ["first", "third"])
def test_a_task_that_any_but_the_first_model_leaves_to_another_one_is_refused(last: str, tmp_path: Path) -> None:
    models = {"first": "second", "second": last, "third": "third"}
    file = tmp_path / "catalog.toml"
    file.write_text(
        "".join(
            f'[models.{name}]\nfamily = "sd"\nsource = "/m"\n[models.{name}.tasks.remove]\nmodel = "{other}"\n'
            for name, other in models.items()
        )
    )
    with pytest.raises(BadModel, match=r"models\.second\.tasks\.remove\.model: only the first model, 'first', can"):
        load_catalog(str(file))
