"""The attribution file of trained weights, generated from the list of photos."""

from __future__ import annotations

import csv
import json
from pathlib import Path

FREE = ("CC0-1.0", "LicenseRef-Public-Domain")
LICENCE_URLS = {
    "CC-BY-2.0": "https://creativecommons.org/licenses/by/2.0/",
    "CC-BY-3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "BSD-2-Clause": "https://opensource.org/license/bsd-2-clause (text below)",
}
HEAD = """\
Photos behind the weights in model/

Each photo was resized, re-encoded and used as training data. The weights are published under CC-BY-SA-4.0
(see LICENSE).
This file is generated: python -m recipe attribution

"""


def attribution(rows: list[dict[str, str]]) -> str:
    """One line a photo that asks for credit, the BSD text once, then the files that ask for nothing."""
    credited = [row for row in rows if row["licence"] not in FREE]
    free = [row["file"] for row in rows if row["licence"] in FREE]
    lines = [f"== Photos to credit ({len(credited)}): file | title | author | source | licence, its text", ""]
    lines += [_line(row) for row in credited]
    lines += ["", "== BSD-2-Clause", "", Path(__file__).with_name("bsd_2_clause.txt").read_text(encoding="utf-8")]
    lines += [f"== Photos in the public domain or under CC0-1.0 ({len(free)})", "", *free, ""]
    return HEAD + "\n".join(lines)


def _line(row: dict[str, str]) -> str:
    """A photo without a page of its own is credited to the package that carries it."""
    source = row["source_url"] or f"{row['package']} {row['package_version']}, {row['path_in_package']}"
    licence = f"{row['licence']}, {LICENCE_URLS[row['licence']]}"
    return " | ".join((row["file"], row["title"], row["author"], source, licence))


def read_rows(corpus: Path) -> list[dict[str, str]]:
    with (corpus / "train.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def known_files(text: str) -> set[str]:
    """The photos that an attribution file knows."""
    return {line.split(" | ")[0] for line in text.splitlines() if line.split(" | ")[0].endswith(".webp")}


def write_attribution(corpus: Path, runs: Path, pocket: Path) -> None:
    """Writes ATTRIBUTION, which must know every file that the runs could draw from, and the list of those."""
    text = attribution(read_rows(corpus))
    seen = sorted({file for path in runs.glob("*/files.json") for file in json.loads(path.read_text())})
    unknown = set(seen) - known_files(text)
    if unknown:
        raise ValueError(f"trained on files that the list does not hold: {sorted(unknown)[:5]}")
    pocket.mkdir(parents=True, exist_ok=True)
    (pocket / "ATTRIBUTION").write_text(text, encoding="utf-8")
    (pocket / "trained_on.txt").write_text("\n".join(seen) + "\n", encoding="utf-8")
