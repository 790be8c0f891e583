"""The mutants: one TOML file for each area beside this one, read and applied.

[[file]]
path = "jobs/queue.py"
tests = ["tests/jobs/test_queue.py"]        # one of them must fail
[[file.mutant]]
old = "depth >= limit"                      # occurs once in the file
new = "depth > limit"
equivalent = "why no test can notice"       # only where that is so
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

FOLDER = Path("tests/mutants")
"""Where the lists are, in a checkout."""


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Change(Record):
    """One wrong line, as it stands in a list."""

    old: str = Field(min_length=1)
    new: str
    tests: tuple[str, ...] | None = Field(None, min_length=1)
    equivalent: str | None = Field(None, min_length=1)


class File(Record):
    path: str
    tests: tuple[str, ...] = Field(min_length=1)
    mutant: tuple[Change, ...] = Field(min_length=1)


class Area(Record):
    file: tuple[File, ...] = Field(min_length=1)


class StaleError(Exception):
    """A mutant that cannot be applied to the code as it is now."""


@dataclass(frozen=True)
class Mutant:
    """``old`` in the file ``path`` becomes ``new``, and one of ``tests`` must fail."""

    area: str
    path: str
    tests: tuple[str, ...]
    old: str
    new: str
    equivalent: str | None

    def apply(self, text: str) -> str:
        """The file's text with the wrong line. Raises StaleError where ``old`` is not there once or Python breaks."""
        if (count := text.count(self.old)) != 1:
            raise StaleError(f"{self.path}: the text occurs {count} times instead of once: {self.old!r}")
        mutated = text.replace(self.old, self.new)
        try:
            compile(mutated, self.path, "exec")
        except SyntaxError as error:
            raise StaleError(f"{self.path}: not Python with {self.new!r}: {error}") from None
        if mutated == text:
            raise StaleError(f"{self.path}: nothing changes: {self.old!r}")
        return mutated

    def describe(self, text: str) -> str:
        """Where it is and what it changes, on one line."""
        line = text[: text.index(self.old)].count("\n") + 1
        old, new = (" ".join(part.split()) or "nothing" for part in (self.old, self.new))
        return f"{self.area}: {self.path}:{line}: {old}  ->  {new}"


def read_lists(tree: Path) -> dict[str, Area]:
    """The lists of a checkout by the names of their areas."""
    files = sorted((tree / FOLDER).glob("*.toml"))
    return {file.stem: Area.model_validate(tomllib.loads(file.read_text())) for file in files}


def mutants_of(areas: dict[str, Area]) -> Iterator[Mutant]:
    for name, area in areas.items():
        for file in area.file:
            for change in file.mutant:
                tests = change.tests or file.tests
                yield Mutant(name, file.path, tests, change.old, change.new, change.equivalent)
