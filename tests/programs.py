"""Programs that some tests run and pip does not bring: ``scripts/test-programs.sh`` installs them."""

import os
import shutil

import pytest

MODE = "TEST_PROGRAMS"
"""``required``, which ``.ci/run`` sets: a test that lacks a program fails. Else it skips."""


def program(name: str) -> str:
    """The program's path. Skips the test that asks where there is none, or fails it where there has to be one."""
    if found := shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"):
        return found
    if os.environ.get(MODE) == "required":
        pytest.fail(f"there is no {name}, and {MODE}=required: see scripts/test-programs.sh", pytrace=False)
    pytest.skip(f"needs {name}")
