"""Programs that tests need: installed where that is possible, asked for in one place, never skipped over in CI."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.programs import MODE, program

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "test-programs.sh"
NO_SUCH = "no-such-program"


def installed(folder: Path, *wanted: str, uid: int, apt_get: str | None) -> subprocess.CompletedProcess[str]:
    """Run the script among programs that say who we are and, where there is one, what apt-get does."""
    bash, programs = Path("/bin/bash"), {"id": f"echo {uid}", "apt-get": apt_get}
    for name in ("mktemp", "tail", "rm", "timeout", "cat"):
        (folder / name).symlink_to(program(name))
    for name, line in programs.items():
        if line is not None:
            (folder / name).write_text(f"#!{bash}\n{line}\n")
            (folder / name).chmod(0o755)
    command = [bash, SCRIPT, *wanted]
    return subprocess.run(command, env={"PATH": str(folder)}, capture_output=True, text=True, check=False)


def test_programs_that_are_there_need_no_one_to_install_them(tmp_path: Path) -> None:
    found = installed(tmp_path, "tail=coreutils", uid=1000, apt_get=None)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@pytest.mark.parametrize(("uid", "apt_get"), [(1000, "exit 0"), (0, None)], ids=["no root", "no apt-get"])
def test_without_root_or_apt_the_script_says_what_is_missing_and_that_its_tests_skip(
    tmp_path: Path, uid: int, apt_get: str | None
) -> None:
    found = installed(tmp_path, "tail=coreutils", f"{NO_SUCH}=a-package", uid=uid, apt_get=apt_get)
    assert found.returncode == 3
    assert "no a-package" in found.stdout and "skip" in found.stdout and "coreutils" not in found.stdout


def test_with_root_and_apt_a_package_that_cannot_be_fetched_is_a_failure_with_apts_words(tmp_path: Path) -> None:
    found = installed(tmp_path, f"{NO_SUCH}=a-package", uid=0, apt_get="echo E: no network >&2; exit 100")
    assert found.returncode == 1
    assert "a-package could not be installed" in found.stderr and "E: no network" in found.stderr


def test_the_ci_run_ends_where_programs_could_not_be_installed() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    statuses = re.search(
        r"scripts/test-programs\.sh \|\| programs=\$\?\ncase \$programs in\n(.*?)esac", text, re.DOTALL
    )
    assert statuses is not None and f"export {MODE}=required" in statuses[1] and '*) exit "$programs"' in statuses[1]


def test_a_test_without_its_program_skips_and_in_ci_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MODE, raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"needs {NO_SUCH}"):
        program(NO_SUCH)
    monkeypatch.setenv(MODE, "required")
    with pytest.raises(pytest.fail.Exception, match=f"no {NO_SUCH}, and {MODE}=required"):
        program(NO_SUCH)
    assert Path(program("sh")).is_file()


def test_every_program_that_a_test_needs_is_one_that_the_script_installs() -> None:
    """And no test looks for one by itself, or it would skip in CI."""
    files = {file: file.read_text() for file in (ROOT / "tests").rglob("*.py") if file != Path(__file__)}
    by_themselves = [
        str(file) for file, text in files.items() if "shutil.which(" in text and file.name != "programs.py"
    ]
    assert by_themselves == []
    asked = {name for text in files.values() for name in re.findall(r'\bprogram\("(.+?)"\)', text)}
    wanted = re.search(r"wanted=\((nginx=.*)\)", SCRIPT.read_text())
    assert wanted is not None and asked == {pair.partition("=")[0] for pair in wanted[1].split()}
    assert os.access(SCRIPT, os.X_OK)
