"""``make mutants``: put one wrong line after another into a copy of the code, and see whether the tests notice.

Every mutant of ``tests/mutants/*.toml`` is applied alone, and the tests that the list names for it run. Exits with 1
where less than 95 % are killed, and where an ``equivalent`` one is killed after all.
"""

import argparse
import os
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.lists import Mutant, mutants_of, read_lists
from tests.mutants.trials import Copy, Result, Trial, run_trials, warm_up

CHECKOUT = Path(__file__).parents[2]
WANTED_SHARE = 0.95
LIMIT_FACTOR, LIMIT_AT_LEAST_S = 3.0, 60.0
"""A mutant whose tests run so much longer than without it hangs them: killed."""


@dataclass(frozen=True)
class Verdict:
    mutant: Mutant
    described: str
    killed: bool


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", default="", metavar="PATTERN", help="regular expression: area, file, line and texts")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--tree", type=Path, default=CHECKOUT, help="checkout to try")
    given = parser.parse_args(arguments)
    areas = read_lists(given.tree)
    texts = {mutant.path: (given.tree / mutant.path).read_text() for mutant in mutants_of(areas)}
    chosen = [mutant for mutant in mutants_of(areas) if re.search(given.only, mutant.describe(texts[mutant.path]))]
    if not chosen:
        parser.error("no mutant is like that")
    verdicts = judge(given.tree, chosen, texts, given.jobs)
    return report(verdicts)


def judge(tree: Path, mutants: Sequence[Mutant], texts: dict[str, str], jobs: int) -> list[Verdict]:
    """Try the tests without any mutant, then with each of them alone. Raises SystemExit where they fail without."""
    trials = [Trial(mutant.tests, 0, mutant.path, mutant.apply(texts[mutant.path])) for mutant in mutants]
    described = [mutant.describe(texts[mutant.path]) for mutant in mutants]
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    warm_up(tree, sorted({test for trial in trials for test in trial.tests}))
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [Copy(tree, Path(folder) / str(index)) for index in range(min(jobs, len(mutants)))]
        limits = time_limits(copies, sorted({trial.tests for trial in trials}))

        def tell(index: int, result: Result) -> None:
            print(
                f"{'survived' if result.passed else 'killed':8} {result.seconds:5.1f} s  {described[index]}", flush=True
            )

        limited = [Trial(trial.tests, limits[trial.tests], trial.path, trial.text) for trial in trials]
        results = run_trials(copies, limited, tell)
    return [Verdict(*told) for told in zip(mutants, described, (not result.passed for result in results), strict=True)]


def time_limits(copies: Sequence[Copy], tests: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
    """Run the tests on the code as it is: seconds that a mutant may take."""

    def tell(index: int, result: Result) -> None:
        print(
            f"{'unharmed' if result.passed else 'FAILED':8} {result.seconds:5.1f} s  {' '.join(tests[index])}",
            flush=True,
        )
        if not result.passed:
            raise SystemExit(f"These tests fail without any mutant:\n{result.output}")

    results = run_trials(copies, [Trial(files, 3600) for files in tests], tell)
    return {
        files: max(LIMIT_AT_LEAST_S, LIMIT_FACTOR * result.seconds)
        for files, result in zip(tests, results, strict=True)
    }


def report(verdicts: Sequence[Verdict]) -> int:
    """Print the shares and what survived; the exit status."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        kind = "equivalent" if verdict.mutant.equivalent else "killed" if verdict.killed else "survived"
        counts[verdict.mutant.area][kind] += 1
    print(f"\n{'area':14} {'killed':>8} {'survived':>8} {'equivalent':>10}")
    for area, count in counts.items():
        print(f"{area:14} {count['killed']:8} {count['survived']:8} {count['equivalent']:10}")
    survivors = [verdict for verdict in verdicts if not verdict.killed and not verdict.mutant.equivalent]
    wrongly = [verdict for verdict in verdicts if verdict.killed and verdict.mutant.equivalent]
    total = Counter[str]()
    for count in counts.values():
        total.update(count)
    counted = total["killed"] + total["survived"]
    share = total["killed"] / counted if counted else 1.0
    for title, some in (("Survived", survivors), ("Called equivalent, but killed", wrongly)):
        for verdict in some:
            print(f"{title}: {verdict.described}")
    print(f"{total['killed']} of {counted} killed: {share:.1%} (at least {WANTED_SHARE:.0%} are wanted)")
    return 0 if share >= WANTED_SHARE and not wrongly else 1


if __name__ == "__main__":
    sys.exit(main())
