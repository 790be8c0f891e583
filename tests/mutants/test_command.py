"""``python -m tests.mutants`` on a small tree of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CODE = """
def larger(a: int, b: int) -> int:
    return a if a > b else b
"""
TESTS = """
import pathlib
from jobs.numbers import larger
import jobs
from tests import mutants

def test_it_is_the_larger_one():
    here = str(pathlib.Path(__file__).parents[1])
    assert jobs.__path__[0].startswith(here) and mutants.__path__[0].startswith(here)
    assert larger(1, 2) == 2
"""
KILLED = ("a > b", "a < b", None)
SURVIVES = ("a > b", "a >= b and a < 9", None)
EQUIVALENT = ("a > b", "a >= b", "of two equal ones either is the larger")
WRONGLY = ("a > b", "a < b", "it is not")


def tree(folder: Path, *mutants: tuple[str, str, str | None], code: str = CODE) -> Path:
    """A checkout with one function, one test, and a list of these mutants."""
    for name, text in {"jobs/__init__.py": "", "jobs/numbers.py": code, "tests/__init__.py": ""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "tests" / "test_numbers.py").write_text(TESTS)
    (folder / "tests" / "mutants").mkdir()
    (folder / "tests" / "mutants" / "__init__.py").write_text("")
    lines = ["[[file]]", 'path = "jobs/numbers.py"', 'tests = ["tests/test_numbers.py"]']
    for old, new, equivalent in mutants:
        lines += ["[[file.mutant]]", f"old = {old!r}", f'new = """{new}"""']
        lines += [f"equivalent = {equivalent!r}"] if equivalent else []
    (folder / "tests" / "mutants" / "numbers.toml").write_text("\n".join(lines))
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.mutants", "--tree", str(folder), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_mutants_that_tests_notice_are_killed_and_the_code_is_as_it_was(tmp_path: Path) -> None:
    shown = run(tree(tmp_path, KILLED, EQUIVALENT))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "1 of 1 killed: 100.0%" in shown.stdout
    assert shown.stdout.count("\nkilled ") == shown.stdout.count("\nsurvived ") == 1
    assert (tmp_path / "jobs" / "numbers.py").read_text() == CODE
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_survivor_is_named_and_too_many_fail(tmp_path: Path) -> None:
    shown = run(tree(tmp_path, SURVIVES, KILLED), "--jobs", "1")
    assert shown.returncode == 1
    assert "Survived: numbers: jobs/numbers.py:3: a > b  ->  a >= b and a < 9" in shown.stdout
    assert "1 of 2 killed: 50.0%" in shown.stdout


def test_some_can_be_picked(tmp_path: Path) -> None:
    shown = run(tree(tmp_path, SURVIVES, KILLED), "--only", "numbers.py:3: .* a < b$")
    assert shown.returncode == 0 and "1 of 1 killed" in shown.stdout
    assert "no mutant" in run(tmp_path, "--only", "nothing").stderr


def test_one_that_is_called_equivalent_and_is_killed_is_a_fault(tmp_path: Path) -> None:
    shown = run(tree(tmp_path, KILLED, WRONGLY), "--only", "")
    assert shown.returncode == 1 and "Called equivalent, but killed: numbers" in shown.stdout


def test_tests_that_fail_without_any_mutant_are_no_judges(tmp_path: Path) -> None:
    shown = run(tree(tmp_path, KILLED, code=CODE.replace("else b", "else 0")))
    assert shown.returncode == 1
    assert "These tests fail without any mutant" in shown.stderr and "larger(1, 2) == 2" in shown.stderr
    assert "killed" not in shown.stdout


@pytest.mark.parametrize("old", ["a > c", "a"])
def test_a_list_that_has_rotted_is_an_error(tmp_path: Path, old: str) -> None:
    shown = run(tree(tmp_path, (old, "b", None)))
    assert shown.returncode != 0 and "jobs/numbers.py" in shown.stderr
    assert "unharmed" not in shown.stdout
