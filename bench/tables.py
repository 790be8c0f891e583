"""The tables of ``bench/README.md``, from the kept results: ``python -m bench.tables``.

The page names a result in a pair of comments, ``<!-- table: NAME -->`` and ``<!-- end -->``; what stands between them
is ``bench/results/NAME.json`` as Markdown. ``--check`` writes nothing and fails if the page is not up to date.
"""

import argparse
import re
import sys
from pathlib import Path

from bench.record import RESULTS, read

PAGE = Path(__file__).with_name("README.md")
BLOCK = re.compile(r"<!-- table: (\S+) -->\n(?:(?!<!--).)*<!-- end -->", re.DOTALL)
MARK = re.compile(r"^<!-- (?:table: .*|end) -->$", re.MULTILINE)


def render(page: str, results: Path) -> str:
    """The page with each of its tables as its result has it.

    Raises ValueError if a comment lacks its partner, a table its result, or a result its table.
    """
    shown = BLOCK.findall(page)
    if len(MARK.findall(page)) != 2 * len(shown):
        raise ValueError("not every <!-- table: NAME --> is followed by its <!-- end -->")
    if hidden := {file.stem for file in results.glob("*.json")} - set(shown):
        raise ValueError(f"results without a table: {', '.join(sorted(hidden))}; show or remove them")
    records = {name: read(results / f"{name}.json") for name in shown}
    return BLOCK.sub(lambda block: _block(block[1], records[block[1]].markdown()), page)


def _block(name: str, table: str) -> str:
    return f"<!-- table: {name} -->\n{table}\n<!-- end -->"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tables", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not up to date")
    chosen = parser.parse_args()
    before = PAGE.read_text()
    try:
        after = render(before, RESULTS)
    except ValueError as error:
        sys.exit(f"{PAGE.name}: {error}")
    if not chosen.check:
        PAGE.write_text(after)
    elif after != before:
        sys.exit(f"{PAGE.name} is not what bench/results says: run python -m bench.tables")


if __name__ == "__main__":
    main()
