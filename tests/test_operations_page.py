"""What docs/operations.md tells operators to look for exists under that name."""

import re
from pathlib import Path

import rq

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "operations.md").read_text()
LINES = (
    "has lost its worker",
    "lost the lease of job",
    "no step boundary for too long: ending",
    "Redis does not answer",
    "heartbeat failed",
    "changes_lost",
    "the result of job",
    "the end of job",
    "this machine's clock is",
    "unexpected_store_error",
)


def test_every_metric_it_names_is_in_the_list_of_metrics() -> None:
    listed = set(re.findall(r"infill_[a-z_]+", (ROOT / "docs" / "metrics.md").read_text()))
    assert set(re.findall(r"infill_[a-z_]+", PAGE)) <= listed


def test_every_setting_it_names_is_in_the_list_of_settings_or_its_own() -> None:
    listed = set(re.findall(r"INFILL_[A-Z_]+", (ROOT / "docs" / "settings.md").read_text()))
    own = set(re.findall(r"^\| `(INFILL_[A-Z_]+)`", PAGE, re.MULTILINE))
    assert set(re.findall(r"INFILL_[A-Z_]+", PAGE)) <= listed | own


def test_every_log_line_it_quotes_is_written_somewhere() -> None:
    folders = (ROOT / "app", ROOT / "worker", Path(rq.__file__).parent)
    source = "".join(file.read_text() for folder in folders for file in folder.rglob("*.py"))
    for line in LINES:
        assert line in PAGE and line in source
