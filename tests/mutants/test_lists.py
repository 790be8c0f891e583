"""The lists of mutants fit the code as it is."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.mutants.lists import Area, Mutant, StaleError, mutants_of, read_lists

ROOT = Path(__file__).parents[2]
MUTANTS = list(mutants_of(read_lists(ROOT)))


def mutant(old: str, new: str) -> Mutant:
    return Mutant("area", "file.py", ("tests/test_file.py",), old, new, None)


@pytest.mark.parametrize("path", sorted({mutant.path for mutant in MUTANTS}))
def test_every_mutant_applies_to_the_code_and_has_its_tests(path: str) -> None:
    text = (ROOT / path).read_text()
    for one in MUTANTS:
        if one.path == path:
            one.apply(text)
            assert [test for test in one.tests if not (ROOT / test).is_file()] == []


def test_no_mutant_is_listed_twice() -> None:
    changes = [(mutant.path, mutant.apply((ROOT / mutant.path).read_text())) for mutant in MUTANTS]
    assert len(set(changes)) == len(changes)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("gone", "x", "occurs 0 times"),
        ("a", "b", "occurs 2 times"),
        ("a = 1", "a = = 1", "not Python"),
        ("a = 1", "a = 1", "nothing changes"),
    ],
)
def test_a_mutant_that_does_not_fit_is_an_error_that_names_it(old: str, new: str, reason: str) -> None:
    with pytest.raises(StaleError, match=f"file.py: .*{reason}"):
        mutant(old, new).apply("a = 1\nb = a\n")


def test_a_mutant_is_applied_and_described_by_its_line() -> None:
    one, text = mutant("b = a", "b = 2"), "a = 1\nb = a\n"
    assert one.apply(text) == "a = 1\nb = 2\n"
    assert one.describe(text) == "area: file.py:2: b = a  ->  b = 2"


@pytest.mark.parametrize("broken", [{"old": ""}, {"equivalent": ""}, {"nwe": "x"}])
def test_a_list_with_a_slip_is_refused(broken: dict[str, str]) -> None:
    change = {"old": "a", "new": "b", **broken}
    with pytest.raises(ValidationError):
        Area.model_validate({"file": [{"path": "a.py", "tests": ["t.py"], "mutant": [change]}]})
