"""Programs that tests need: installed where that is possible, and never skipped over where they had to be."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "test-programs.sh"
NO_SUCH = "no-such-program"


def install(folder: Path, *wanted: str, uid: int, apt_get: str | None) -> subprocess.CompletedProcess[str]:
    """Run the script among programs that say who we are and, where there is one, what apt-get does."""
    for name in ("mktemp", "tail", "rm", "timeout"):
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    for name, line in {"id": f"echo {uid}", "apt-get": apt_get}.items():
        if line is not None:
            (folder / name).write_text(f"#!/bin/bash\n{line}\n")
            (folder / name).chmod(0o755)
    command = ["/bin/bash", SCRIPT, *wanted]
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


@pytest.mark.parametrize(
    ("status", "ended", "programs"), [(0, 0, "nginx curl"), (3, 0, "unset"), (1, 1, "not reached")]
)
def test_the_ci_run_requires_the_programs_skips_without_root_and_is_red_where_they_could_not_be_installed(
    tmp_path: Path, status: int, ended: int, programs: str
) -> None:
    """``.ci/run`` itself, in a folder whose scripts and make do nothing but say so."""
    for folder in (".ci", "scripts", "bin"):
        (tmp_path / folder).mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    says = {"scripts/test-programs.sh": f'[ "${{1:-}}" = --names ] && echo nginx curl || exit {status}'}
    says["bin/make"] = 'echo "make $1 ${TEST_PROGRAMS-unset}"'
    for name, line in says.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "TEST_PROGRAMS"}
    environment["PATH"] = f"{tmp_path / 'bin'}:{environment['PATH']}"
    run = subprocess.run([tmp_path / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == ended, run.stderr
    assert run.stdout == ("" if ended else f"make test {programs}\nmake check {programs}\n")


TESTS = """
import pytest

@pytest.mark.skipif(True, reason="needs nginx")
def test_marked(): pass

def test_asking():
    pytest.skip("no redis-server here")

def test_another():
    pytest.skip("Linux only, and redis-server-tools")
"""


@pytest.mark.parametrize(
    ("programs", "outcomes"),
    [("", "3 skipped"), ("nginx", "2 skipped, 1 error"), ("nginx redis-server", "1 failed, 1 skipped, 1 error")],
)
def test_a_skip_for_want_of_a_program_that_has_to_be_there_is_a_failure(
    tmp_path: Path, programs: str, outcomes: str
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.installed_programs", "-p", "no:cacheprovider", "-n", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TEST_PROGRAMS": programs}
    run = subprocess.run([*command, tmp_path], env=environment, capture_output=True, text=True, check=False)
    assert f"{outcomes} in " in run.stdout, run.stdout
    assert ("needs nginx. Yet nginx is installed by" in run.stdout) == bool(programs)


def test_whatever_program_a_test_looks_for_is_one_that_the_script_installs() -> None:
    """By the reasons of the tests' skips: one that names another program would go unnoticed in CI."""
    names = subprocess.run([SCRIPT, "--names"], capture_output=True, text=True, check=True).stdout.split()
    files = [file for file in (ROOT / "tests").rglob("*.py") if file != Path(__file__)]
    looked_for = {name for file in files for name in re.findall(r'shutil\.which\("([\w+-]+)"', file.read_text())}
    assert looked_for == set(names)
