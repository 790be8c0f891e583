"""The files of the page for people: what they name exists, and each of the service's problems has a sentence."""

import re
from typing import get_args

import pytest

from app.problems import HTTP_CODES, error_classes
from app.routes.page import FOLDER
from jobs.schema import Approximation, InpaintRequest, Timings

TEXTS = {path.name: path.read_text() for path in FOLDER.iterdir() if path.suffix in (".html", ".css", ".js", ".svg")}
LINES = 250


def test_every_problem_has_a_sentence_for_people() -> None:
    known = {code for code, _ in HTTP_CODES.values()} | error_classes().keys()
    assert set(re.findall(r"^  ([a-z]\w+): \"", TEXTS["sentences.js"], re.MULTILINE)) == known


def test_every_part_of_the_time_and_every_approximation_has_a_name() -> None:
    parts = set(Timings.model_fields) - {"total", "steps", "step_p50", "batch_mean"}
    for name in parts | set(get_args(Approximation)):
        assert re.search(rf"\b{name}: \"", TEXTS["result.js"]), name


def test_every_field_of_the_form_is_one_of_the_service() -> None:
    text = TEXTS["settings.js"] + TEXTS["fields.js"]
    names = set(re.findall(r"(?:select\(|name: |^  \[)\"([a-z_]+)\"", text, re.MULTILINE)) | {"prompt"}
    names -= {"Fill", "Remove"}
    assert names >= {"model", "preset", "n", "seed", "strength", "mask_grow", "negative_prompt"}
    assert names <= set(InpaintRequest.model_fields)


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_a_file_names_only_files_icons_and_elements_that_are_there(name: str) -> None:
    text = TEXTS[name]
    files = {path.name for path in FOLDER.iterdir()}
    assert set(re.findall(r"page/([\w.-]+\.\w+)", text)) <= files
    assert set(re.findall(r"from \"\./([\w.-]+)\"", text)) <= files
    ids = set(re.findall(r"\bid=\"([\w-]+)\"", TEXTS["index.html"]))
    assert set(re.findall(r"\$\(\"([\w-]+)\"\)", text)) <= ids
    icons = set(re.findall(r"<symbol id=\"(\w+)\"", TEXTS["icons.svg"]))
    assert set(re.findall(r"icons\.svg#(\w+)", text)) | set(re.findall(r"\bicon\(\"(\w+)\"\)", text)) <= icons
    assert len(text.splitlines()) <= LINES
