"""What the files below ``tests/`` may import from each other."""

import ast
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def imports(program: str) -> Iterator[str]:
    """The dotted names that a program imports, those in its strings included where they are programs themselves."""
    for node in ast.walk(ast.parse(program)):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)
            case ast.Constant(value=str(text)) if "import " in text:
                with suppress(SyntaxError):
                    yield from imports(text)


def from_tests(program: str) -> list[str]:
    """Those that lie in a module of tests or in a conftest."""
    return [
        name
        for name in imports(program)
        if any(part.startswith("test_") or part == "conftest" for part in name.split("."))
    ]


@pytest.mark.parametrize(
    "program",
    [
        "from tests.app.test_errors import a",
        "from tests.app import (\n    test_errors,\n)",
        "def f():\n    import tests.conftest",
        "from .test_errors import a",
        "from . import conftest",
        "PROGRAM = '''\nimport sys\nfrom tests.app.test_errors import a\n'''",
    ],
)
def test_an_import_from_a_module_of_tests_is_found(program: str) -> None:
    assert from_tests(program)


def test_no_file_imports_from_a_module_of_tests_or_from_a_conftest() -> None:
    """What several share lies in a plain module that is named by what it holds, or is a fixture of a conftest."""
    found = {str(file.relative_to(TESTS)): from_tests(file.read_text()) for file in TESTS.rglob("*.py")}
    assert len(found) > 200
    assert {file: names for file, names in found.items() if names and file != Path(__file__).name} == {}
