"""What the pages of the documentation name exists: settings, metrics, error codes, log lines, other pages."""

import re
from pathlib import Path

import pytest

from jobs.errors import InfillError
from jobs.setting_names import NAMES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
QUOTED = {
    "troubleshooting.md": ["has lost its worker", "cannot be used", "there are no API keys", "which does not answer"],
    "first-model.md": ["torch is built for", "and cannot be downloaded", "No worker is ready after", "loaded: "],
}


def codes() -> set[str]:
    def tree(root: type[InfillError]) -> set[str]:
        return {root.code}.union(*map(tree, root.__subclasses__()))

    return tree(InfillError)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_metrics_and_links_of_a_page_exist(page: Path) -> None:
    text = page.read_text()
    assert set(re.findall(r"INFILL_[A-Z_]*[A-Z]\b", text)) <= NAMES
    metrics = set(re.findall(r"`(infill_[a-z_]+)", text)) - {"infill_client"}
    assert metrics <= set(re.findall(r"infill_[a-z_]+", (DOCS / "metrics.md").read_text()))
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = set(re.findall(r"`([a-z-]+\.md)`", text))
    assert [name for name in named if not (DOCS / name).exists() and not (DOCS / "design" / name).exists()] == []


@pytest.mark.parametrize("page", ["troubleshooting.md", "first-model.md", "loras.md"])
def test_codes_that_a_page_of_advice_names_are_error_codes(page: str) -> None:
    text = (DOCS / page).read_text()
    rows = re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE)
    named = {code for row in rows for code in re.findall(r"`([a-z]+_[a-z_]+|crashed)`", row)}
    assert sorted(named - codes()) == []


@pytest.mark.parametrize("page", QUOTED)
def test_lines_that_a_page_quotes_are_written_by_the_code(page: str) -> None:
    text = (DOCS / page).read_text()
    source = "".join(
        file.read_text() for folder in ("app", "jobs", "worker", "launch") for file in (ROOT / folder).rglob("*.py")
    )
    for line in QUOTED[page]:
        assert line in text and line in source


def test_the_index_lists_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    assert [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in index] == []
