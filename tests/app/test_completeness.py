"""The docs list what the code has: settings, routes, fields, error codes, metrics. Both ways."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client.core import Metric

from app.examples import JOBS
from app.inpaint_form import InpaintForm
from app.main import create_app
from app.problems import HTTP_CODES, error_classes, status_of
from app.responses import NOT_PARTS
from app.settings import ApiSettings
from jobs.errors import InfillError
from jobs.job_view import JobView
from jobs.schema import Approximation
from tests.redis_server import RedisServer

DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str, columns: int) -> list[list[str]]:
    """The table rows of a page whose first cell is code, with as many columns; not those about the worker."""
    text, _, _ = (DOCS / page).read_text().partition("\n## The worker")
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if len(row) == columns]


def test_every_setting_is_documented_with_its_default() -> None:
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows("settings.md", 3)}
    real = {
        f"INFILL_{name.upper()}": "none" if field.default is None else str(field.default)
        for name, field in ApiSettings.model_fields.items()
    }
    assert documented == real


def test_every_setting_is_read_from_its_variable() -> None:
    assert ApiSettings.model_config["env_prefix"] == "INFILL_"
    assert all(field.description for field in ApiSettings.model_fields.values())


def test_every_error_code_is_documented_with_its_status() -> None:
    documented = {row[0].strip("`"): int(row[1]) for row in rows("api.md", 3) if re.fullmatch(r"[45]\d\d", row[1])}
    real = {code: status_of(error) for code, error in error_classes().items()}
    real |= {code: status for status, (code, _) in HTTP_CODES.items()}
    assert documented == real


def test_every_route_is_documented() -> None:
    documented = {row[0].strip("`") for row in rows("api.md", 2)}
    paths = create_app(ApiSettings()).openapi()["paths"]
    real = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert documented == real | {"GET /"}


def test_every_form_field_is_documented() -> None:
    text = (DOCS / "api.md").read_text()
    section = text[text.index("## Submit") : text.index("### Files")]
    documented = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))
    assert documented == set(InpaintForm.model_fields)


def test_every_approximation_is_documented() -> None:
    text = (DOCS / "api.md").read_text()
    section = text[text.index("### Approximate results") : text.index("### LoRA adapters")]
    assert set(re.findall(r"^- `(\w+)`:", section, re.MULTILINE)) == set(get_args(Approximation))


JOB_IN_THE_DOCS = json.loads(
    re.findall(r"```json\n(.*?)```", (DOCS / "api.md").read_text(), re.DOTALL)[0].replace('"…"', '"2026-01-31T12:00Z"')
)


@pytest.mark.parametrize("example", [*JOBS.values(), JOB_IN_THE_DOCS], ids=[*JOBS, "in the docs"])
def test_an_example_of_a_job_has_exactly_the_fields_that_are_sent(example: dict[str, Any]) -> None:
    sent = JobView.model_validate(example).model_dump(mode="json")
    assert names_in(example) == names_in(sent)
    if timings := example["timings"]:
        parts = [timings[name] for name in timings if name not in ("total", *NOT_PARTS)]
        assert sum(parts) == pytest.approx(timings["total"])


def names_in(example: Any) -> Any:
    """The names of all fields, also of those inside; None for a value."""
    if isinstance(example, dict):
        return {name: names_in(value) for name, value in example.items()}
    return [names_in(value) for value in example] if isinstance(example, list) else None


def test_every_metric_is_documented_with_its_kind(redis_server: RedisServer) -> None:
    documented = {row[0].strip("`").removesuffix("_total"): row[1] for row in rows("metrics.md", 4)}
    metrics: list[Metric] = list(
        create_app(ApiSettings(redis_url=redis_server.url)).state.backend.metrics.registry.collect()
    )
    assert documented == {metric.name: metric.type for metric in metrics}


def test_a_code_is_one_classs_own_but_for_the_unnamed_failure() -> None:
    def tree(root: type[InfillError]) -> list[type[InfillError]]:
        return [root, *(leaf for child in root.__subclasses__() for leaf in tree(child))]

    codes = [error.__dict__["code"] for error in tree(InfillError) if "code" in error.__dict__]
    assert {code for code in codes if codes.count(code) > 1} == {"internal_error"}
