"""In CI no test skips for want of a program that ``scripts/test-programs.sh`` has seen to: it fails.

``TEST_PROGRAMS`` has the names of those that are there for certain; ``.ci/run`` sets it. A test that looks for one and
does not find it skips with a reason that names it.
"""

import os
import re
from collections.abc import Generator

import pytest

VARIABLE = "TEST_PROGRAMS"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        file, line, reason = report.longrepr
        if found := named(reason):
            report.outcome = "failed"
            report.longrepr = f"{file}:{line}: {reason}. Yet {found} is installed by scripts/test-programs.sh."
    return report


def named(reason: str) -> str | None:
    """The program that a skip's reason names as missing although it has to be there."""
    programs = os.environ.get(VARIABLE, "").split()
    return next((name for name in programs if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", reason)), None)
