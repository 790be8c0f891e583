"""Kept results and the page made from them."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.record import RESULTS, Record, command_line, read
from bench.tables import PAGE, render

ROOT = Path(__file__).parents[2]
EMPTY = "before\n\n<!-- table: speed -->\n<!-- end -->\n\nafter\n"


def kept(folder: Path) -> Record:
    record = Record(["side", "ms"], [["a", "1.5"]], ["Two turns."], "python -m bench.x", "2026-01-02", "a machine")
    record.keep(folder / "speed.json")
    return record


def test_the_page_is_what_the_results_say() -> None:
    assert render(PAGE.read_text(), RESULTS) == PAGE.read_text(), "run python -m bench.tables"


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    assert kept(tmp_path) == read(tmp_path / "speed.json")


def test_a_table_stands_between_its_comments_with_its_origin_and_once_however_often_it_is_rendered(
    tmp_path: Path,
) -> None:
    kept(tmp_path)
    page = render(EMPTY, tmp_path)
    assert page.split("\n") == [
        "before",
        "",
        "<!-- table: speed -->",
        "`python -m bench.x`, 2026-01-02, a machine. Two turns.",
        "",
        "| side | ms |",
        "| --- | --- |",
        "| a | 1.5 |",
        "<!-- end -->",
        "",
        "after",
        "",
    ]
    assert render(page, tmp_path) == page
    assert render(page.replace("1.5", "0.5"), tmp_path) == page, "a figure that was changed by hand"


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        (EMPTY.replace("<!-- end -->", ""), "followed by its"),
        (EMPTY.replace("speed", "sped"), "results without a table: speed"),
        (EMPTY + EMPTY.replace("speed", "sped"), "sped.json"),
        (EMPTY.replace("table: speed", "table: spe ed"), "followed by its"),
    ],
)
def test_a_comment_without_its_partner_and_a_result_or_a_table_alone_are_errors(
    page: str, fault: str, tmp_path: Path
) -> None:
    kept(tmp_path)
    with pytest.raises(ValueError, match=fault):
        render(page, tmp_path)


@pytest.mark.parametrize("text", ["[", "[]", "{}", '{"colums": []}', '{"columns": ["a"], "rows": [[1]]}'])
def test_a_file_that_holds_no_record_is_an_error_with_its_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "speed.json").write_text(text)
    with pytest.raises(ValueError, match=r"speed\.json"):
        render(EMPTY, tmp_path)


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="text for each"):
        Record(["a", "b"]).add("1")


def test_a_bar_in_a_cell_does_not_end_it() -> None:
    assert Record(["a"], [["b | c"]]).table().splitlines()[-1] == r"| b \| c |"


def test_the_command_line_is_what_was_typed_without_where_the_table_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = ["/venv/bin/python", "-m", "bench.x", "--keep", "speed", "--photos", "a b", "--keep=speed", "--size", "1"]
    monkeypatch.setattr(sys, "orig_argv", typed)
    assert command_line().endswith("python -m bench.x --photos 'a b' --size 1")


def test_a_name_in_a_folder_that_is_not_there_is_refused_before_anything_is_measured() -> None:
    command = [sys.executable, "-m", "bench.sandbox", "--keep", "no/speed"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "there is no folder" in ended.stderr and ended.stdout == ""
