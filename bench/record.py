"""What a measurement found: one table, with the command, the day and the machine that its figures come from.

``--keep NAME`` keeps it as ``bench/results/NAME.json``; ``python -m bench.tables`` puts the kept ones into the page.
"""

import argparse
import json
import os
import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

from bench.machine import describe

RESULTS = Path(__file__).with_name("results")
WIDTH = 120
"""Columns of a page's prose, as ``tests/test_prose.py`` has it."""
THREADS = ("GOMP_SPINCOUNT", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
"""Environment variables that change figures: they belong to the command."""
ENVIRONMENT = [f"{name}={os.environ[name]}" for name in THREADS if name in os.environ]
"""As the caller has set it; some commands set more for the servers that they start."""


def keep_option() -> argparse.ArgumentParser:
    """A parent for the parser of a command that prints a table."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--keep", type=_file, metavar="NAME", help="keep the table as bench/results/NAME.json")
    return parser


def _file(name: str) -> Path:
    file = RESULTS / f"{name}.json"
    if file.parent.is_dir():
        return file
    raise argparse.ArgumentTypeError(f"there is no folder {file.parent}")


def command_line() -> str:
    """What was typed, but for ``--keep``."""
    _, words = keep_option().parse_known_args(sys.orig_argv[1:])
    return " ".join([*ENVIRONMENT, "python", shlex.join(words)])


@dataclass
class Record:
    """A table. ``rows`` are texts, one for each column; ``notes``: sentences about all of it.

    ``transcribed``: from a page that was written by hand, not kept by the command. Raises ValueError for a row that
    does not fit the columns.
    """

    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    command: str = field(default_factory=command_line)
    date: str = field(default_factory=lambda: date.today().isoformat())
    machine: str = field(default_factory=describe)
    transcribed: bool = False

    def __post_init__(self) -> None:
        for cells in self.rows:
            self._check(cells)

    def add(self, *cells: str) -> None:
        """One row more; it is said on standard error at once, as the table is printed at the end."""
        self._check(cells)
        self.rows.append(list(cells))
        print(_line(cells), file=sys.stderr, flush=True)

    def _check(self, cells: Sequence[str]) -> None:
        if len(cells) != len(self.columns) or not all(isinstance(cell, str) for cell in cells):
            raise ValueError(f"{cells} is not a text for each of {self.columns}")

    def table(self) -> str:
        """The figures as Markdown."""
        return "\n".join(_line(cells) for cells in [self.columns, ["---"] * len(self.columns), *self.rows])

    def markdown(self) -> str:
        """Where the figures come from, the notes, the table."""
        origin = f"`{self.command}`, {self.date}, {self.machine}{', transcribed' * self.transcribed}."
        text = textwrap.fill(" ".join([origin, *self.notes]), WIDTH, break_long_words=False, break_on_hyphens=False)
        return f"{text}\n\n{self.table()}"

    def finish(self, file: Path | None = None) -> None:
        """Print it, and keep it if that was asked for."""
        print(self.markdown(), flush=True)
        if file:
            self.keep(file)

    def keep(self, file: Path) -> None:
        """Write it as JSON, which ``read`` reads."""
        file.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def read(file: Path) -> Record:
    """A kept record. Raises ValueError, which names the file, if it is none."""
    try:
        return Record(**json.loads(file.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
