"""The pages of the documentation can be read in a terminal: lines of prose and cells of tables have a limit."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WIDTH = 120
TRACKED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
PAGES = TRACKED.split()
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
URL = re.compile(r"https?://\S+")


@pytest.mark.skipif(not PAGES, reason="no git, or no work tree: the list of pages is git's")
def test_no_line_of_prose_and_no_cell_of_a_table_is_wider_than_the_limit() -> None:
    wide = [fault for page in PAGES for fault in too_wide(page, (ROOT / page).read_text())]
    assert wide == []


def too_wide(page: str, text: str) -> list[str]:
    """``page: start of the text`` of each cell and line above ``WIDTH``; code, and addresses, may be longer."""
    lines = FENCED.sub("", text).splitlines()
    cells = [cell.strip() for line in lines if line.startswith("|") for cell in re.split(r"(?<!\\)\|", line)]
    prose = [line for line in lines if not line.startswith(("|", "    "))]
    return [f"{page}: {piece[:60]} ({len(piece)})" for piece in cells + prose if len(URL.sub("", piece)) > WIDTH]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("a" * 120, 0),
        ("a" * 121, 1),
        ("see https://example.org/" + "a" * 120, 0),
        ("```\n" + "a" * 121 + "\n```", 0),
        (f"| {'a' * 120} | {'b' * 120} |", 0),
        (f"| {'a' * 121} | {'b' * 121} |", 2),
    ],
)
def test_what_counts_as_too_wide(text: str, faults: int) -> None:
    assert len(too_wide("page.md", text)) == faults
