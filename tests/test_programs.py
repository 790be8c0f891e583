"""Programs that tests need: installed where that is possible, and never skipped over where they have to be."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import MODE, SCRIPT, installed, program

ROOT = Path(__file__).parents[1]
NO_SUCH = "no-such-program"


def executable(file: Path, line: str) -> None:
    file.write_text(f"#!/bin/bash\n{line}\n")
    file.chmod(0o755)


def install(folder: Path, *wanted: str, uid: int, apt_get: str | None) -> subprocess.CompletedProcess[str]:
    """Run the script among programs that say who we are and, where there is one, what apt-get does."""
    for name in ("mktemp", "tail", "rm", "timeout"):
        (folder / name).symlink_to(program(name))
    executable(folder / "id", f"echo {uid}")
    if apt_get is not None:
        executable(folder / "apt-get", apt_get)
    command: list[str | Path] = ["/bin/bash", SCRIPT, *wanted]
    return subprocess.run(command, env={"PATH": str(folder)}, capture_output=True, text=True, check=False)


def test_programs_that_are_there_need_no_one_to_install_them(tmp_path: Path) -> None:
    found = install(tmp_path, "tail=coreutils", uid=1000, apt_get=None)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.parametrize(("uid", "apt_get"), [(1000, "exit 0"), (0, None)], ids=["no root", "no apt-get"])
def test_without_root_or_apt_the_script_says_what_is_missing_and_that_its_tests_skip(
    tmp_path: Path, uid: int, apt_get: str | None
) -> None:
    found = install(tmp_path, "tail=coreutils", f"{NO_SUCH}=a-package", uid=uid, apt_get=apt_get)
    assert found.returncode == 3
    assert "no a-package" in found.stdout and "skip" in found.stdout and "coreutils" not in found.stdout


def test_with_root_and_apt_a_package_that_cannot_be_fetched_is_a_failure_with_apts_words(tmp_path: Path) -> None:
    found = install(tmp_path, f"{NO_SUCH}=a-package", uid=0, apt_get="echo E: no network >&2; exit 100")
    assert found.returncode == 1
    assert "a-package could not be installed" in found.stderr and "E: no network" in found.stderr


@pytest.mark.parametrize(("status", "ended", "mode"), [(0, 0, "required"), (3, 0, "unset"), (1, 1, "not reached")])
def test_the_ci_run_requires_the_programs_skips_without_root_and_is_red_where_they_could_not_be_installed(
    tmp_path: Path, status: int, ended: int, mode: str
) -> None:
    """``.ci/run`` itself, in a folder whose script ends so and whose make prints what it was called with."""
    for folder in (".ci", "scripts", "bin"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    executable(tmp_path / "scripts" / "test-programs.sh", f"exit {status}")
    executable(tmp_path / "bin" / "make", f'echo "make $1 ${{{MODE}-unset}}"')
    environment = {name: value for name, value in os.environ.items() if name != MODE}
    environment["PATH"] = f"{tmp_path / 'bin'}:{environment['PATH']}"
    run = subprocess.run([tmp_path / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == ended, run.stderr
    assert run.stdout == ("" if ended else f"make test {mode}\nmake check {mode}\n")


TESTS = """
import pytest
from tests.programs import program

@pytest.mark.skipif(True, reason="needs nginx")
def test_marked(): pass

def test_asking_for_one_that_is_nowhere():
    program("no-such-program")

def test_by_itself():
    pytest.skip("no redis-server here")

def test_of_something_else():
    pytest.skip("Linux only, and redis-server-tools")
"""


@pytest.mark.parametrize(("mode", "outcomes"), [("", "4 skipped"), ("required", "1 failed, 2 skipped, 1 error")])
def test_a_skip_for_want_of_a_program_that_has_to_be_there_is_a_failure(
    tmp_path: Path, mode: str, outcomes: str
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.programs", "-p", "no:cacheprovider", "-n", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), MODE: mode}
    run = subprocess.run([*command, tmp_path], env=environment, capture_output=True, text=True, check=False)
    assert f"{outcomes} in " in run.stdout, run.stdout
    assert ("needs nginx. Yet TEST_PROGRAMS=required" in run.stdout) == bool(mode)


def test_a_program_that_is_there_is_found_and_whatever_a_test_looks_for_is_one_that_the_script_installs() -> None:
    """One that it does not install would go unnoticed in CI."""
    assert Path(program("sh")).is_file()
    files = [file for file in (ROOT / "tests").rglob("*.py") if file != Path(__file__)]
    looks = r'(?:shutil\.which|\bprogram)\("([\w+-]+)"'
    assert {name for file in files for name in re.findall(looks, file.read_text())} == set(installed())
