"""Schema, catalog, settings and the error tree."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from jobs import errors
from jobs.catalog import load_catalog
from jobs.errors import BadModel, InfillError, InvalidField, UnknownModel
from jobs.families import FAMILIES, Family
from jobs.schedulers import SCHEDULERS, check_scheduler
from jobs.schema import InpaintParameters, InpaintRequest, JobStatus, Scheduler
from jobs.settings import QueueSettings
from tests.factories import inpaint_parameters, model_entry


def test_a_request_has_every_field_of_the_parameters_and_a_preset_that_settles_some() -> None:
    read_by_the_api = {
        "preset",
        *("mask_scale", "mask_threshold", "mask_box", "mask_polygon", "mask_points", "mask_subject"),
        *("mask_prompt", "mask_model"),
        *("aspect", "size", "anchor", "hires", "priority"),
    }
    own = {"instead_of", "tiles", "find"}
    assert set(InpaintRequest.model_fields) - read_by_the_api == set(InpaintParameters.model_fields) - own


def test_parameters_survive_json() -> None:
    parameters = inpaint_parameters()
    assert InpaintParameters.model_validate_json(parameters.model_dump_json()) == parameters


def test_a_field_that_workers_of_an_older_version_refuse_is_left_out_where_it_is_the_default() -> None:
    default = inpaint_parameters().model_dump(mode="json")
    assert not {"cache_interval", "output_color", "output_quality", "task", "extend", "tiles", "find"} & set(default)
    asked = inpaint_parameters(cache_interval=2, output_color="rgb", output_format="avif", output_quality=50)
    assert InpaintParameters.model_validate(asked.model_dump(mode="json")) == asked


def test_records_are_frozen_and_take_no_unknown_fields() -> None:
    request = InpaintRequest()
    with pytest.raises(ValidationError):
        request.prompt = "x"  # type: ignore[misc]  # on purpose
    with pytest.raises(ValidationError):
        InpaintRequest.model_validate({"colour": "red"})


@pytest.mark.parametrize(
    "field", [{"strength": 0}, {"strength": 1.01}, {"n": 0}, {"seed": 2**32}, {"guidance_scale": float("nan")}]
)
def test_values_out_of_range_are_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        InpaintRequest.model_validate(field)


def test_three_states_are_ends() -> None:
    assert {status.value for status in JobStatus if status.ended} == {"succeeded", "failed", "canceled"}


def test_the_catalog_that_ships_can_be_used() -> None:
    catalog = load_catalog()
    assert catalog.model(catalog.default).family == "sd"
    with pytest.raises(UnknownModel, match="Known models: pocket"):
        catalog.model("other")


@pytest.mark.parametrize("text", ["", "models = 3", "[models.x]\nfamily = 'none'", "not toml ["])
def test_a_catalog_that_cannot_be_used_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(BadModel, match=r"mine\.toml"):
        load_catalog(str(file))


def test_a_catalog_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"gone\.toml"):
        load_catalog(str(tmp_path / "gone.toml"))


def test_scheduler_names_agree_in_both_places() -> None:
    assert set(get_args(Scheduler)) == set(SCHEDULERS)
    assert set(get_args(Family)) == FAMILIES.keys()


@pytest.mark.parametrize(
    ("name", "family", "steps", "said"),
    [
        ("magic", "sd", 20, "Known schedulers: ddim"),
        ("flow_euler", "sdxl", 20, "does not fit the model, which is of family 'sdxl'. Those that do: ddim,"),
        ("ddim", "flux", 20, "Those that do: flow_euler, flow_euler_karras, flow_heun."),
        ("dpmpp_sde", "sd", 1, "'dpmpp_sde' takes 2 to 200 steps, not 1"),
        ("lcm", "sd", 51, "'lcm' takes 1 to 50 steps, not 51"),
    ],
)
def test_a_scheduler_that_does_not_fit_is_refused_with_those_that_do(
    name: str, family: Family, steps: int, said: str
) -> None:
    with pytest.raises(InvalidField, match=re.escape(said)):
        check_scheduler(name, family, steps)


def test_schedulers_that_fit_are_taken() -> None:
    for name, scheduler in SCHEDULERS.items():
        for family in scheduler.families:
            check_scheduler(name, family, min(20, scheduler.max_steps))


@pytest.mark.parametrize("preset", [{}, {"presets": {"fast": {"num_inference_steps": 4, "scheduler": "lcm"}}}])
def test_a_catalog_whose_scheduler_does_not_fit_the_family_is_refused(preset: dict[str, Any]) -> None:
    scheduler = "flow_euler" if preset else "ddim"
    with pytest.raises(ValidationError, match="does not fit the model, which is of family 'flux'"):
        model_entry(**preset, family="flux", scheduler=scheduler)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"schedulers": ["ddim", "flow_euler"]}, "schedulers: 'flow_euler' does not fit the model, which is of family"),
        ({"schedulers": ["euler"]}, "scheduler: 'ddim' does not fit the model"),
        ({"schedulers": ["ddim", "magic"]}, "Input should be 'ddim', "),
        ({"schedulers": []}, "at least 1 item"),
        (
            {"schedulers": ["ddim"], "presets": {"fast": {"num_inference_steps": 4, "scheduler": "lcm"}}},
            "scheduler: 'lcm' does not fit the model, whose noise levels it cannot follow. Those that do: ddim.",
        ),
    ],
    ids=str,
)
def test_a_list_of_schedulers_that_does_not_fit_the_entry_is_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(fault)):
        model_entry(**fields)


def test_every_error_has_a_code_a_title_and_a_sentence_about_itself() -> None:
    found = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, InfillError)]
    assert len(found) > 20
    for error in found:
        assert error.code.replace("_", "").isalpha() and error.code.islower()
        assert error.title and error.__doc__


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFILL_QUEUE_LIMIT", "3")
    assert QueueSettings().queue_limit == 3
    monkeypatch.setenv("INFILL_QUEUE_LIMIT", "none")
    with pytest.raises(ValidationError):
        QueueSettings()


def test_the_contract_imports_neither_side() -> None:
    code = (
        "import sys, jobs.queue, jobs.catalog, jobs.connection;"
        "print([name for name in ('torch', 'fastapi', 'app', 'worker', 'PIL', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
