"""``make mutants``: put one wrong line after another into a copy of the code, and see whether the tests notice.

Every mutant of ``tests/mutants/*.toml`` is applied alone, and the tests that its list names for it run. Exits with 1
where less than 95 % are killed, where an ``equivalent`` one is killed after all, and where a list no longer fits.
"""

import argparse
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.lists import Mutant, StaleError, mutants_of, read_lists
from tests.mutants.trials import Copy, Result, Trial, run_trials, warm_up

CHECKOUT = Path(__file__).parents[2]
WANTED_SHARE = 0.95
LIMIT_FACTOR, LIMIT_AT_LEAST_S = 3.0, 60.0
"""A mutant whose tests run so much longer than without it hangs them: killed."""


@dataclass(frozen=True)
class Applied:
    """A mutant, and the file as it is with it."""

    mutant: Mutant
    text: str
    described: str


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", default="", metavar="PATTERN", help="regular expression: area, file, line and texts")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--tree", type=Path, default=CHECKOUT, help="checkout to try")
    given = parser.parse_args(arguments)
    try:
        applied = [apply(mutant, given.tree) for mutant in mutants_of(read_lists(given.tree))]
    except StaleError as error:
        parser.error(str(error))
    chosen = [one for one in applied if re.search(given.only, one.described)]
    if not chosen:
        parser.error(f"no mutant is like {given.only!r}")
    return report(chosen, judge(given.tree, chosen, given.jobs))


def apply(mutant: Mutant, tree: Path) -> Applied:
    text = (tree / mutant.path).read_text()
    return Applied(mutant, mutant.apply(text), mutant.describe(text))


def judge(tree: Path, mutants: Sequence[Applied], jobs: int) -> list[bool]:
    """Which of the mutants are killed. Raises SystemExit where the tests fail without any."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    files = sorted({one.mutant.tests for one in mutants})
    warm_up(tree, sorted({test for tests in files for test in tests}))

    def tell(index: int, result: Result) -> None:
        show("survived" if result.passed else "killed", result, mutants[index].described)

    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [Copy(tree, Path(folder) / str(index)) for index in range(min(jobs, len(mutants)))]
        limits = time_limits(copies, files)
        trials = [Trial(one.mutant.tests, limits[one.mutant.tests], one.mutant.path, one.text) for one in mutants]
        return [not result.passed for result in run_trials(copies, trials, tell)]


def time_limits(copies: Sequence[Copy], tests: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
    """Run the tests on the code as it is: seconds that a mutant may take."""

    def tell(index: int, result: Result) -> None:
        show("unharmed" if result.passed else "failed", result, " ".join(tests[index]))
        if not result.passed:
            raise SystemExit(f"These tests fail without any mutant:\n{result.output}")

    results = run_trials(copies, [Trial(files, 3600) for files in tests], tell)
    seconds = [max(LIMIT_AT_LEAST_S, LIMIT_FACTOR * result.seconds) for result in results]
    return dict(zip(tests, seconds, strict=True))


def show(outcome: str, result: Result, what: str) -> None:
    print(f"{outcome:8} {result.seconds:5.1f} s  {what}", flush=True)


def report(mutants: Sequence[Applied], killed: Sequence[bool]) -> int:
    """Print the shares, and what survived. Returns the exit status."""
    counts: Counter[tuple[str, str]] = Counter()
    faults = []
    for one, noticed in zip(mutants, killed, strict=True):
        outcome = "equivalent" if one.mutant.equivalent else "killed" if noticed else "survived"
        counts[one.mutant.area, outcome] += 1
        if outcome == "survived":
            faults.append(f"Survived: {one.described}")
        elif outcome == "equivalent" and noticed:
            faults.append(f"Called equivalent, but killed: {one.described}")
    columns = ("killed", "survived", "equivalent")
    print(f"\n{'area':14}" + "".join(f"{name:>12}" for name in columns))
    for area in dict.fromkeys(one.mutant.area for one in mutants):
        print(f"{area:14}" + "".join(f"{counts[area, name]:12}" for name in columns))
    print(*faults, sep="\n")
    dead, alive = (sum(count for (_, name), count in counts.items() if name == wanted) for wanted in columns[:2])
    share = dead / (dead + alive) if dead + alive else 1.0
    print(f"{dead} of {dead + alive} killed: {share:.1%} (at least {WANTED_SHARE:.0%} are wanted)")
    wrongly = any(fault.startswith("Called") for fault in faults)
    return int(share < WANTED_SHARE or wrongly)


if __name__ == "__main__":
    sys.exit(main())
