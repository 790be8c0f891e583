"""The short form of ``make schemathesis``."""

from pathlib import Path

from app.main import create_app
from app.settings import ApiSettings
from tests.description.__main__ import run


def test_every_answer_is_as_the_description_says(tmp_path: Path) -> None:
    ended = run(tmp_path, examples=15, phases="examples,coverage,fuzzing")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    operations = sum(len(methods) for methods in create_app(ApiSettings()).openapi()["paths"].values())
    assert f"Tested: {operations}" in ended.stdout, ended.stdout
