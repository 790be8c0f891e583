"""Programs that some tests run and pip does not bring: ``scripts/test-programs.sh`` installs them.

A test that lacks one skips, with a reason that names it. Where ``TEST_PROGRAMS=required`` (``.ci/run`` sets it once the
script has found or installed all of them) such a skip is a failure, however the test came to it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest

MODE = "TEST_PROGRAMS"
SCRIPT = Path(__file__).parents[1] / "scripts" / "test-programs.sh"


def program(name: str) -> str:
    """The program's path. Skips the test that asks where there is none."""
    if found := shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"):
        return found
    pytest.skip(f"needs {name}")


@cache
def installed() -> list[str]:
    """Names of the programs that the script installs."""
    return subprocess.run([SCRIPT, "--names"], capture_output=True, text=True, check=True).stdout.split()


def missed(reason: str) -> str | None:
    """The program that a skip's reason names although it has to be there."""
    if os.environ.get(MODE) != "required":
        return None
    return next((name for name in installed() if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", reason)), None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """``tests/conftest.py`` makes it a hook of all tests."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        file, line, reason = report.longrepr
        if name := missed(reason):
            report.outcome = "failed"
            report.longrepr = f"{file}:{line}: {reason}. Yet {MODE}=required, and {SCRIPT.name} installs {name}."
    return report
